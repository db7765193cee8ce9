"""What a request may use of its token limits, before it is known what it does use."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from asgi_llm.errors import InvalidRequestError
from asgi_llm.stores.base import Demand
from asgi_llm.types import Document, Usage
from asgi_llm.wire._explain import name_kind

__all__ = ["Reservation", "real_cost", "reserve_output"]

_MOST_FIELDS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_MAX_OUTPUT: Final = 2**31 - 1
_MAX_CHOICES: Final = 128
# What these make is no text, or it is told in no tokens: without a word of the client, nothing.
_NO_OUTPUT: Final = frozenset(
    (
        "/v1/embeddings",
        "/v1/moderations",
        "/v1/rerank",
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
    )
)


class Reservation(msgspec.Struct, frozen=True, gc=False):
    """Tokens that a request may use."""

    input_tokens: int
    output_tokens: int
    guessed: bool
    """Whether the output is a guess of ours, since the client named no maximum."""

    def cost(self, demand: Demand) -> int:
        """How much of ``demand`` to take."""
        limit = demand.limit
        unit = limit.unit
        if unit == "input_tokens":
            return self.input_tokens
        told = self.input_tokens if unit == "tokens" else 0
        output = self.output_tokens
        if self.guessed:
            # A guess is never why a request cannot be met at all.
            room = limit.amount if limit.burst is None else min(limit.amount, limit.burst)
            output = min(output, max(0, room - told))
        return told + output


def real_cost(demand: Demand, usage: Usage) -> int:
    """What ``usage`` takes of ``demand``; a slot costs nothing once it is given back."""
    unit = demand.limit.unit
    if unit == "tokens":
        return usage.total_tokens
    if unit == "input_tokens":
        return usage.input_tokens
    return usage.output_tokens if unit == "output_tokens" else 0


def reserve_output(
    document: Document, path: str, model: str, *, default: int, most: Mapping[str, int]
) -> tuple[int, bool]:
    """The output tokens to reserve, and whether they are a guess.

    Args:
        document: The request.
        path: Its route.
        model: As the client names it.
        default: For one choice, where neither the client nor ``most`` says more.
        most: The most that models of a pattern give in one choice; the first that fits counts.

    Raises:
        InvalidRequestError: ``param`` names a number that is none, or out of range.
    """
    asked = None
    for field in _MOST_FIELDS:
        value = document.get(field)
        if value is not None:
            number = _number(value, field, 0, _MAX_OUTPUT)
            asked = number if asked is None else max(asked, number)
    choices = 1
    for field in ("n", "best_of"):
        value = document.get(field)
        if value is not None:
            choices = max(choices, _number(value, field, 1, _MAX_CHOICES))
    if asked is None and path in _NO_OUTPUT:
        return 0, False
    ceiling = None
    if most:
        ceiling = next((most[pattern] for pattern in most if fnmatchcase(model, pattern)), None)
    if asked is None:
        each = default if ceiling is None else ceiling
    else:
        each = asked if ceiling is None else min(asked, ceiling)
    prompts = document.get("prompt")
    if isinstance(prompts, list) and prompts and type(prompts[0]) is not int:
        choices *= len(prompts)
    return each * choices, asked is None


def _number(value: Any, field: str, least: int, most: int) -> int:
    # A bool is an int to Python.
    if type(value) is not int:
        raise InvalidRequestError(
            f"{field}: expected a whole number, got {name_kind(value)}",
            param=field,
            code="invalid_type",
        )
    if not least <= value <= most:
        raise InvalidRequestError(
            f"{field}: expected a whole number from {least} to {most}",
            param=field,
            code="invalid_value",
        )
    return value
