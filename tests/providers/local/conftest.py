"""The real model, for local embeddings."""

from __future__ import annotations

from tests.services.minilm import minilm_onnx, minilm_path

__all__ = ["minilm_onnx", "minilm_path"]
