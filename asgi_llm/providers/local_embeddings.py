"""Embeddings by a model of this process: no key, no network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from asgi_llm.embedders.base import CountingEmbedder
from asgi_llm.embedders.onnx import OnnxEmbedder
from asgi_llm.embedders.sentence_transformers import SentenceTransformerEmbedder
from asgi_llm.errors import ConfigurationError
from asgi_llm.providers._local_transport import LocalTransport
from asgi_llm.providers._passthrough import OpenAIFormat
from asgi_llm.transports.base import Timeouts

__all__ = ["LocalEmbeddings", "local_embeddings"]


class LocalEmbeddings(OpenAIFormat):
    """Answers ``/v1/embeddings`` by an embedder.

    Texts are embedded as they are; token ids are refused, as are texts that are longer than the
    model reads, unless the embedder cuts them. Usage is counted by the model's own tokenizer.

    Args:
        embedder: The model; closed with the provider.
        name: Its name here, the part before the slash in ``provider/model``.
        models: The names by which the model is asked; by default the embedder's own.
        matryoshka: Whether the model was trained so that ``dimensions`` may cut a vector. Else a
            request for another length than the model's is a 400.
        timeouts: Deadlines of its calls; None takes the app's. ``first_byte_seconds`` is that of
            the model.

    Raises:
        ConfigurationError: The embedder does not count tokens.
    """

    def __init__(
        self,
        embedder: CountingEmbedder,
        *,
        name: str = "local",
        models: Iterable[str] = (),
        matryoshka: bool = False,
        timeouts: Timeouts | None = None,
    ) -> None:
        if not isinstance(embedder, CountingEmbedder):
            raise ConfigurationError(
                "embedder must be one that counts tokens, such as OnnxEmbedder", param="embedder"
            )
        self.embedder = embedder
        served = tuple(models) or (embedder.name,)
        super().__init__(
            name=name,
            provider_name="local",
            base_url="http://local.invalid/v1",
            models=served,
            operations=("embeddings",),
            transport=LocalTransport(embedder, models=served, matryoshka=matryoshka),
            timeouts=timeouts,
        )

    async def aclose(self) -> None:
        """Close the embedder."""
        await self.embedder.aclose()


def local_embeddings(
    *,
    name: str,
    model: str,
    engine: Literal["onnx", "sentence_transformers"] = "onnx",
    models: Iterable[str] = (),
    threads: int | None = None,
    truncate: bool = False,
    matryoshka: bool = False,
    timeouts: Timeouts | None = None,
) -> LocalEmbeddings:
    """The provider that a configuration describes.

    Args:
        name: Its name.
        model: A folder; for sentence-transformers also the name of a model on this machine.
        engine: What runs it.
        models: The names by which it is asked.
        threads: For one run of the model, at least 1; None: 1 for onnx, torch's own otherwise.
        truncate: Cut texts that are too long, in place of refusing them.
        matryoshka: Whether ``dimensions`` may cut a vector.
        timeouts: Deadlines of its calls.

    Raises:
        ConfigurationError: An option is wrong, a package is missing, or the folder holds no model.
    """
    embedder: CountingEmbedder
    if engine == "onnx":
        embedder = OnnxEmbedder(model, threads=1 if threads is None else threads, truncate=truncate)
    else:
        embedder = SentenceTransformerEmbedder(model, threads=threads, truncate=truncate)
    return LocalEmbeddings(
        embedder, name=name, models=models, matryoshka=matryoshka, timeouts=timeouts
    )
