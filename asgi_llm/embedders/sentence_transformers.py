"""Embeddings by sentence-transformers: the reference for every other driver."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asgi_llm._optional import require
from asgi_llm.embedders._threaded import ThreadedEmbedder, check_installed
from asgi_llm.errors import ConfigurationError

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vectors

__all__ = ["SentenceTransformerEmbedder"]

_EXTRA: Final = "sentence-transformers"


class SentenceTransformerEmbedder(ThreadedEmbedder):
    """An ``Embedder`` over any model that sentence-transformers loads.

    The first call imports torch and loads the model, which takes seconds, in the embedder's own
    thread; ``load`` does it earlier.

    Args:
        model: A folder, or a name that was downloaded before.
        name: What the model is called; None: the last part of ``model``.
        device: Where it runs, in torch's words.
        threads: Of torch, for the whole process, at least 1; None leaves it as it is.
        allow_download: Whether a model that is not on this machine is fetched.
        truncate: Cut texts that are too long, in place of refusing them.
        max_batch_texts: Of one run of the model, at least 1.
        window_seconds: How long the first caller waits for others to join, at least 0; 0: until
            all have come that are in the same turn of the loop.
        max_waiting_texts: What comes on top of so many that wait is refused.

    Raises:
        ConfigurationError: An option is wrong, or a package is missing.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        name: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        allow_download: bool = False,
        truncate: bool = False,
        max_batch_texts: int = 32,
        window_seconds: float = 0.0,
        max_waiting_texts: int = 2048,
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigurationError("threads must be at least 1", param="threads")
        check_installed("sentence_transformers", extra=_EXTRA)
        self._path = str(model)
        self._device = device
        self._threads = threads
        self._allow_download = allow_download
        super().__init__(
            name=Path(self._path).name if name is None else name,
            truncate=truncate,
            max_batch_texts=max_batch_texts,
            window_seconds=window_seconds,
            max_waiting_texts=max_waiting_texts,
        )

    def _open(self) -> SentenceTransformerModel:
        if self._threads is not None:
            require("torch", extra=_EXTRA).set_num_threads(self._threads)
        return SentenceTransformerModel(
            self._path, device=self._device, allow_download=self._allow_download
        )


class SentenceTransformerModel:
    """A model in memory.

    Args:
        path: A folder, or a name.
        device: Where it runs, in torch's words.
        allow_download: Whether it may be fetched.

    Raises:
        ConfigurationError: It is not there, or reads texts of any length.
    """

    def __init__(self, path: str, *, device: str = "cpu", allow_download: bool = False) -> None:
        self._np = require("numpy", extra=_EXTRA)
        library = require("sentence_transformers", extra=_EXTRA)
        # A server's log is no place for a bar that grows.
        require("transformers.utils.logging", extra=_EXTRA).disable_progress_bar()
        try:
            self.model = library.SentenceTransformer(
                path, device=device, local_files_only=not allow_download
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"sentence-transformers cannot load {path!r} on this machine: {error}",
                param="model",
            ) from error
        limit = self.model.get_max_seq_length()
        if limit is None:
            raise ConfigurationError(
                f"{path!r} does not say how many tokens it reads", param="model"
            )
        self.max_input_tokens = int(limit)
        self.dimension = int(self._vectors(["a"]).shape[1])

    def encode(self, texts: Sequence[str], *, truncate: bool) -> tuple[Vectors, list[int]]:
        """The vectors of ``texts``, and how many tokens each has."""
        np = self._np
        limit = self.max_input_tokens
        tokens = self.model.tokenizer(
            list(texts), truncation=False, padding=False, verbose=False, return_attention_mask=False
        )["input_ids"]
        counts = [min(len(one), limit) if truncate else len(one) for one in tokens]
        vectors: Vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        fitting = [place for place, count in enumerate(counts) if count <= limit]
        if fitting:
            vectors[fitting] = self._vectors([texts[place] for place in fitting])
        return vectors, counts

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        found = self.model.encode(
            list(texts),
            batch_size=max(1, len(texts)),
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=True,
        )
        vectors: Vectors = found.astype(self._np.float32, copy=False)
        return vectors
