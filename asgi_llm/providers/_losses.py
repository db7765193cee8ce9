"""What a translation cannot carry over: named to the client, or refused in strict mode."""

from __future__ import annotations

import re
from typing import Final

from asgi_llm.errors import InvalidRequestError

__all__ = ["Losses", "loss_text"]

_INDEX = re.compile(r"\[\d+\]")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_SHOWN: Final = 20


def loss_text(losses: tuple[str, ...]) -> str:
    """The names of what was lost, as a text of bounded length for headers and logs.

    Names that a client made up may hold anything; only plain ones are repeated.
    """
    names = [name for name in losses if _PLAIN_NAME.fullmatch(name)]
    text = ", ".join(names[:_SHOWN])
    if len(names) < len(losses) or len(names) > _SHOWN:
        text += ", ..." if text else "..."
    return text


class Losses:
    """Collects the fields of one request that the target has no words for.

    Args:
        provider: The provider's name here, for the message.
        strict: Refuse the request at the first loss instead of collecting it.
    """

    __slots__ = ("_names", "_provider", "strict")

    def __init__(self, provider: str, *, strict: bool) -> None:
        self._provider = provider
        self.strict = strict
        self._names: dict[str, None] = {}

    def add(self, path: str, why: str = "") -> None:
        """Say that ``path`` does not reach the provider as the client wrote it.

        Args:
            path: As in ``messages[2].name``.
            why: What becomes of it, as the end of a sentence; by default it is left out.

        Raises:
            InvalidRequestError: Losses are refused; ``param`` is ``path``.
        """
        if self.strict:
            raise InvalidRequestError(
                f"{path}: the provider {self._provider!r} cannot be told this"
                + (f" ({why})" if why else "")
                + ", and strict translation is on.",
                param=path,
                code="unsupported_field",
            )
        self._names[_INDEX.sub("", path)] = None

    @property
    def names(self) -> tuple[str, ...]:
        """The paths without indexes, each once, in the order in which they were met."""
        return tuple(self._names)
