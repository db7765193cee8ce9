"""A deterministic provider that needs no key and no network."""

from __future__ import annotations

import time
from collections.abc import Callable

from asgi_llm.errors import ConfigurationError
from asgi_llm.providers._echo_transport import MODELS, EchoTransport
from asgi_llm.providers._passthrough import OpenAIFormat

__all__ = ["Echo"]


class Echo(OpenAIFormat):
    """Answers every operation in process, the same way each time: for examples, tests and demos.

    A chat is answered with the text of its last user message, or with the results of the tools
    since then. A message ``call NAME`` or ``call NAME {"key": 1}``, one call a line, calls these
    tools; ``tool_choice`` can force a call, whose arguments are made from the tool's schema.
    ``response_format`` gives JSON, ``stop``, ``n``, ``max_tokens`` and ``logprobs`` are obeyed.
    A token is up to 16 characters of one word, with the blanks before it.

    Some model names are orders: ``error-429`` (any status from 400 to 599), ``error-in-stream``,
    ``cut`` (the connection is lost in the middle of the answer) and ``timeout``.

    Args:
        name: Its name here, the part before the slash in ``provider/model``.
        clock: Unix seconds, for ``created``.
        chunk_delay_seconds: Wait before each event of a stream, at least 0.

    Raises:
        ConfigurationError: The delay is negative or no number.
    """

    def __init__(
        self,
        *,
        name: str = "echo",
        clock: Callable[[], float] = time.time,
        chunk_delay_seconds: float = 0.0,
    ) -> None:
        if not 0 <= chunk_delay_seconds < float("inf"):
            raise ConfigurationError(
                f"chunk_delay_seconds must be at least 0, not {chunk_delay_seconds!r}",
                param="chunk_delay_seconds",
            )
        super().__init__(
            name=name,
            provider_name="echo",
            base_url="http://echo.invalid/v1",
            models=MODELS,
            transport=EchoTransport(clock, chunk_delay_seconds),
        )
