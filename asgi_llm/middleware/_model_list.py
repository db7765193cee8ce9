"""``/v1/models`` as a caller sees it who may use some models only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from starlette.types import Scope

from asgi_llm import _json
from asgi_llm._asgi import Observer, RawHeaders
from asgi_llm.errors import InternalError
from asgi_llm.middleware._model_access import model_allowed
from asgi_llm.types import Principal

__all__ = ["ModelListFilter", "plain_scope"]

_MAX_LIST_BYTES: Final = 16 * 1024 * 1024
# They speak of the whole list.
_OF_THE_WHOLE = frozenset((b"etag", b"last-modified", b"content-digest", b"content-md5"))
_ROUND_THE_BODY = frozenset(("http.response.pathsend", "http.response.zerocopysend"))


def plain_scope(scope: Scope) -> Scope:
    """A scope whose app answers with bytes that can be read, and by way of ``send``."""
    headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
    headers.append((b"accept-encoding", b"identity"))
    plain = {**cast("Mapping[str, Any]", scope), "headers": headers}
    extensions = scope.get("extensions")
    if extensions:
        kept = {name: value for name, value in extensions.items() if name not in _ROUND_THE_BODY}
        plain["extensions"] = kept
    return plain


class ModelListFilter(Observer):
    """Takes the models that ``principal`` may not use out of a list of models.

    Any other answer than a list passes if it is an error, and is refused if it is not: what cannot
    be read cannot be filtered.

    Streaming: the whole answer, at most 16 MiB, is held back.
    """

    hold_start = True
    rewrites = True

    def __init__(self, principal: Principal, *, head: bool) -> None:
        self._principal = principal
        self._head = head
        self._passes = False
        self._parts: list[bytes] = []
        self._size = 0

    async def on_start(self, status: int, headers: RawHeaders) -> None:
        """Errors pass; of a list nothing may be told that counts what is left out."""
        self._passes = not 200 <= status < 300
        if self._passes:
            return
        if any(
            name.lower() == b"content-encoding" and value.lower() != b"identity"
            for name, value in headers
        ):
            raise _unreadable()
        headers[:] = [pair for pair in headers if pair[0].lower() not in _OF_THE_WHOLE]

    async def on_body(self, chunk: bytes, more: bool) -> bytes:
        """The list, when it is whole."""
        if self._passes:
            return chunk
        self._size += len(chunk)
        if self._size > _MAX_LIST_BYTES:
            raise _unreadable()
        self._parts.append(chunk)
        if more:
            return b""
        body = b"".join(self._parts)
        return b"" if self._head and not body else self._filter(body)

    def _filter(self, body: bytes) -> bytes:
        try:
            document = _json.decode_unchecked(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _unreadable() from error
        models = document.get("data") if isinstance(document, dict) else None
        if not isinstance(models, list):
            raise _unreadable()
        kept = [model for model in models if self._may_see(model)]
        document = {**document, "data": kept}
        # The cursors of lists that come in pages.
        for name, position in (("first_id", 0), ("last_id", -1)):
            if name in document:
                document[name] = kept[position]["id"] if kept else None
        return _json.encode(document)

    def _may_see(self, model: object) -> bool:
        name = model.get("id") if isinstance(model, dict) else None
        return isinstance(name, str) and model_allowed(self._principal, name)


def _unreadable() -> InternalError:
    return InternalError("The list of models cannot be shown to a key that may use some only.")
