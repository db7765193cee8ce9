"""What the definitions of a configuration file are made of."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

__all__ = [
    "Definition",
    "LayerDefinition",
    "Megabytes",
    "Mode",
    "Name",
    "Port",
    "Seconds",
    "Secret",
    "Share",
    "Text",
    "TimeoutsDefinition",
    "Url",
    "Usd",
]


class Secret:
    """A value that is shown nowhere by itself; only ``reveal`` gives it out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError("a Secret cannot be pickled")


Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Url = Annotated[
    str,
    Meta(
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        extra={"is": "an http:// or https:// URL without user, query or fragment"},
    ),
]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[^\s/\x00-\x1f\x7f][^\s\x00-\x1f\x7f]{0,255}$",
        extra={"is": "a name of 1 to 256 characters without spaces"},
    ),
]
Text = Annotated[str, Meta(min_length=1, max_length=1024)]
Usd = Annotated[Decimal, Meta(extra={"is": "an amount of USD from 0 to 1000000000000"})]
Share = Annotated[Decimal, Meta(extra={"is": "a share such as 0.8"})]
Megabytes = 1024 * 1024


class Definition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields left out have their defaults; unknown ones are refused."""


class LayerDefinition(Definition, frozen=True, kw_only=True):
    """A layer of the stack."""


Mode = Annotated[
    Literal["enforce", "observe"],
    Meta(description="observe decides and records, and lets everything pass."),
]


class TimeoutsDefinition(Definition, frozen=True, kw_only=True):
    """Deadlines of a call to a provider; null is none, left out is the next outer one."""

    connect_seconds: Annotated[
        Seconds | UnsetType | None,
        Meta(description="From asking for a connection to having one (10)."),
    ] = UNSET
    first_byte_seconds: Annotated[
        Seconds | UnsetType | None,
        Meta(description="From the request sent to the answer's status line (300)."),
    ] = UNSET
    idle_seconds: Annotated[
        Seconds | UnsetType | None,
        Meta(description="Between two pieces of the answer (120)."),
    ] = UNSET
    total_seconds: Annotated[
        Seconds | UnsetType | None,
        Meta(description="From the call to the end of the answer (1800)."),
    ] = UNSET
