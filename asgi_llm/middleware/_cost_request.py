"""What a request says about its own cost: its cap, its tags, and whether it wants to be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, DecimalException
from typing import Any, Final

from asgi_llm._semconv import Operation
from asgi_llm.errors import InvalidRequestError
from asgi_llm.state import State
from asgi_llm.types import Document, Principal
from asgi_llm.wire._explain import name_kind

__all__ = [
    "MAX_COST_FIELD",
    "MAX_COST_HEADER",
    "NO_TAGS",
    "OPERATIONS",
    "UNTOLD",
    "clamp_output",
    "read_max_cost",
    "read_tags",
    "wants_usage",
]

MAX_COST_FIELD: Final = "max_cost_usd"
MAX_COST_HEADER: Final = b"x-max-cost"

OPERATIONS: Final[Mapping[str, Operation]] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/moderations": "moderation",
    "/v1/images/generations": "image_generation",
    "/v1/images/edits": "image_generation",
    "/v1/images/variations": "image_generation",
    "/v1/audio/speech": "speech",
    "/v1/audio/transcriptions": "transcription",
    "/v1/audio/translations": "transcription",
    "/v1/rerank": "rerank",
}

_CAP_FIELD: Final = {
    "/v1/chat/completions": "max_completion_tokens",
    "/v1/completions": "max_tokens",
    "/v1/messages": "max_tokens",
    "/v1/responses": "max_output_tokens",
}
_CAPS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")

# OpenAI's own bounds of ``metadata``.
_MOST_TAGS: Final = 16
_TAG_NAME: Final = 64
_TAG_VALUE: Final = 512
NO_TAGS: Final[Mapping[str, str]] = {}

_MOST_USD: Final = Decimal(10) ** 12
_NUMBER_LENGTH: Final = 40
UNTOLD: Final = Decimal("Infinity")
"""The cap of a request that has none."""


def read_max_cost(state: State, document: Document) -> Decimal:
    """The most that the client wants to pay, by header or field: the lower of them.

    Raises:
        InvalidRequestError: One of them is no amount of USD.
    """
    cap = UNTOLD
    header = state.headers.get(MAX_COST_HEADER)
    if header is not None:
        cap = _amount(header.decode("latin-1"), "X-Max-Cost")
    if MAX_COST_FIELD in document:
        value = document[MAX_COST_FIELD]
        if value is not None:
            cap = min(cap, _amount(value, MAX_COST_FIELD))
    return cap


def _amount(value: Any, name: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidRequestError(
            f"{name}: expected an amount of USD, got {name_kind(value)}",
            param=name,
            code="invalid_type",
        )
    # The shortest notation of a float is what was written.
    text = value if isinstance(value, str) else repr(value)
    try:
        amount = Decimal(text) if len(text) <= _NUMBER_LENGTH else UNTOLD
    except DecimalException:
        amount = UNTOLD
    # NaN compares with nothing.
    if not amount.is_finite() or not 0 <= amount <= _MOST_USD:
        raise InvalidRequestError(
            f"{name}: expected an amount of USD from 0 to {_MOST_USD}",
            param=name,
            code="invalid_value",
        )
    return amount


def read_tags(
    document: Document, principal: Principal | None, names: frozenset[str] | None
) -> Mapping[str, str]:
    """The tags of a request: those of its ``metadata``, and over them those of its caller.

    Args:
        document: The request.
        principal: Its caller, whose own metadata nobody can change by asking.
        names: Those that count; None is all.
    """
    asked = document.get("metadata")
    own = principal.metadata if principal is not None else NO_TAGS
    if not asked and not own:
        return NO_TAGS
    tags: dict[str, str] = {}
    for source in (own, asked):
        if not isinstance(source, Mapping):
            continue
        for name, value in source.items():
            if len(tags) >= _MOST_TAGS:
                break
            if (
                name not in tags
                and isinstance(value, str)
                and len(name) <= _TAG_NAME
                and len(value) <= _TAG_VALUE
                and (names is None or name in names)
            ):
                tags[name] = value
    return tags


def wants_usage(document: Document) -> bool:
    """Whether the client asks for the event with the usage of a stream."""
    options = document.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def clamp_output(
    document: Document, path: str, most: int, fits: Callable[[Document], bool]
) -> Document | None:
    """The request with the largest limit of its output that fits; None: none does.

    Args:
        document: The request.
        path: Its route.
        most: The limit that it has now, or that is taken for it.
        fits: Whether a request may be sent.
    """
    default = _CAP_FIELD.get(path)
    if default is None:
        return None
    fields = [name for name in _CAPS if document.get(name) is not None] or [default]
    least, largest = 0, most
    while least < largest:
        middle = (least + largest + 1) // 2
        if fits({**document, **dict.fromkeys(fields, middle)}):
            least = middle
        else:
            largest = middle - 1
    return {**document, **dict.fromkeys(fields, least)} if least else None
