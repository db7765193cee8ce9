"""Embeddings by onnxruntime: the reference's vectors at a fraction of its CPU time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asgi_llm._optional import require
from asgi_llm.embedders._model_folder import ModelFolder, read_folder
from asgi_llm.embedders._threaded import ThreadedEmbedder, check_installed
from asgi_llm.errors import ConfigurationError

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vectors

__all__ = ["OnnxEmbedder"]

_EXTRA: Final = "onnx"
_MAX_RUN_TOKENS: Final = 8192
_SPREAD: Final = 1.25
_TINY: Final = 1e-12


class OnnxEmbedder(ThreadedEmbedder):
    """An ``Embedder`` over the files that ``asgi-llm embedder export`` makes.

    Also reads a folder of sentence-transformers that has an ONNX file. The model is loaded by the
    first call, in the embedder's own thread, in which it runs from then on.

    Args:
        folder: Where the files are.
        name: What the model is called; None: as its files say, or as the folder is called.
        threads: Of onnxruntime, for one run, from 1 to 256.
        truncate: Cut texts that are too long, in place of refusing them.
        max_batch_texts: Of one run of the model, at least 1.
        window_seconds: How long the first caller waits for others to join, at least 0; 0: until
            all have come that are in the same turn of the loop.
        max_waiting_texts: What comes on top of so many that wait is refused.

    Raises:
        ConfigurationError: An option is wrong, a package is missing, or the folder holds no model.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        name: str | None = None,
        threads: int = 1,
        truncate: bool = False,
        max_batch_texts: int = 32,
        window_seconds: float = 0.0,
        max_waiting_texts: int = 2048,
    ) -> None:
        if not 1 <= threads <= 256:
            raise ConfigurationError("threads must be from 1 to 256", param="threads")
        check_installed("numpy", "onnxruntime", "tokenizers", extra=_EXTRA)
        self._files = read_folder(folder)
        self._threads = threads
        super().__init__(
            name=self._files.name if name is None else name,
            truncate=truncate,
            max_batch_texts=max_batch_texts,
            window_seconds=window_seconds,
            max_waiting_texts=max_waiting_texts,
        )

    def _open(self) -> OnnxModel:
        return OnnxModel(self._files, threads=self._threads)


class OnnxModel:
    """A model in memory.

    Args:
        files: Its files.
        threads: Of onnxruntime, for one run.
    """

    def __init__(self, files: ModelFolder, *, threads: int) -> None:
        self._np = require("numpy", extra=_EXTRA)
        runtime = require("onnxruntime", extra=_EXTRA)
        tokenizers = require("tokenizers", extra=_EXTRA)
        self._tokenizer = tokenizers.Tokenizer.from_file(str(files.tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that wait for work must not burn what the event loop needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = runtime.InferenceSession(
            str(files.model), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {given.name for given in self._session.get_inputs()}
        self._output = self._session.get_outputs()[0].name
        self._pooling = files.pooling
        self.max_input_tokens = files.max_input_tokens
        ends = self._tokenizer.encode("").ids
        # The last token of every text, which a cut one has as well.
        self._end = ends[-1:]
        self.dimension = int(self._vectors([ends]).shape[1])

    def encode(self, texts: Sequence[str], *, truncate: bool) -> tuple[Vectors, list[int]]:
        """The vectors of ``texts``, and how many tokens each has."""
        np = self._np
        # In one batch the tokenizer lets other threads of Python run meanwhile.
        ids = [found.ids for found in self._tokenizer.encode_batch_fast(list(texts))]
        limit = self.max_input_tokens
        if truncate:
            ids = [one if len(one) <= limit else one[: limit - 1] + self._end for one in ids]
        counts = [len(one) for one in ids]
        vectors: Vectors = np.zeros((len(ids), self.dimension), dtype=np.float32)
        fitting = sorted(
            (place for place, count in enumerate(counts) if count <= limit),
            key=counts.__getitem__,
        )
        for run in _runs(fitting, counts):
            vectors[run] = self._vectors([ids[place] for place in run])
        return vectors, counts

    def _vectors(self, ids: Sequence[Sequence[int]]) -> Vectors:
        """One run of the model."""
        np = self._np
        width = max(map(len, ids))
        tokens = np.zeros((len(ids), width), dtype=np.int64)
        mask = np.zeros((len(ids), width), dtype=np.int64)
        for row, one in enumerate(ids):
            tokens[row, : len(one)] = one
            mask[row, : len(one)] = 1
        given = {"input_ids": tokens, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            given["token_type_ids"] = np.zeros_like(tokens)
        (states,) = self._session.run([self._output], given)
        return self._unit(self._pooled(states, mask))

    def _pooled(self, states: Any, mask: Any) -> Any:
        """One vector of the states of all tokens; some models have done that themselves."""
        if states.ndim == 2:
            return states
        if self._pooling == "cls":
            return states[:, 0]
        weights = mask[:, :, None].astype(states.dtype)
        return (states * weights).sum(axis=1) / weights.sum(axis=1)

    def _unit(self, vectors: Any) -> Vectors:
        np = self._np
        lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)
        found: Vectors = (vectors / lengths).astype(np.float32)
        return found


def _runs(places: Sequence[int], counts: Sequence[int]) -> list[list[int]]:
    """``places``, the shortest text first, in runs of nearly the same length.

    What is shorter than the longest of a run is filled up, and the filling costs as much as text.
    """
    runs: list[list[int]] = []
    for place in places:
        run = runs[-1] if runs else []
        if (
            run
            and counts[place] <= _SPREAD * counts[run[0]] + 4
            and (len(run) + 1) * counts[place] <= _MAX_RUN_TOKENS
        ):
            run.append(place)
        else:
            runs.append([place])
    return runs
