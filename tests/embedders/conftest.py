"""The real model, for all tests of embedders."""

from __future__ import annotations

from tests.services.minilm import minilm_int8, minilm_onnx, minilm_path

__all__ = ["minilm_int8", "minilm_onnx", "minilm_path"]
