"""What is said where a package is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HIDE = """
import sys
for name in ("numpy", "redis", "qdrant_client", "onnxruntime", "tokenizers", "torch",
             "sentence_transformers", "onnx"):
    sys.modules[name] = None
from asgi_llm.errors import ConfigurationError
try:
    {code}
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "made", "extra"),
    [
        ("embedders.onnx", "OnnxEmbedder('x')", "onnx"),
        ("embedders.http", "HttpEmbedder('http://x', model='m')", "semantic"),
        (
            "embedders.sentence_transformers",
            "SentenceTransformerEmbedder('x')",
            "sentence-transformers",
        ),
        ("embedders.export", "export_model('x', 'y')", "export"),
        ("stores.semantic_index_memory", "MemorySemanticIndex()", "semantic"),
        ("stores.semantic_index_redis", "RedisSemanticIndex('redis://x', dimension=3)", "redis"),
        ("stores.semantic_index_qdrant", "QdrantSemanticIndex(':memory:', dimension=3)", "qdrant"),
    ],
)
def test_a_missing_package_is_told_with_its_command(module: str, made: str, extra: str) -> None:
    """By the constructor; to import the module costs nothing."""
    name = made.partition("(")[0]
    code = HIDE.format(code=f"from asgi_llm.{module} import {name}; {made}")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"is not installed; run: pip install 'asgi-llm[{extra}]'" in done.stdout
