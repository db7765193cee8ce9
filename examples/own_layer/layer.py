"""A layer that refuses chats to which too many words were sent, and says how many are left."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import BufferedBody, Observer, observe, route_path, send_error
from asgi_llm.errors import ConfigurationError, InvalidRequestError, LLMError, RawHeaders
from asgi_llm.state import FAILURE, enter

MAX_BODY_BYTES = 32 * 1024 * 1024


class WordLimitMiddleware:
    """Caps the words of a chat's messages.

    Args:
        max_words: At least 1.

    Raises:
        ConfigurationError: ``max_words`` is below 1.
    """

    def __init__(self, app: ASGIApp, *, max_words: int) -> None:
        if max_words < 1:
            raise ConfigurationError("max_words must be at least 1", param="max_words")
        self.app = app
        self.max_words = max_words

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or route_path(scope) != "/v1/chat/completions"
        ):
            await self.app(scope, receive, send)
            return
        scope, state = enter(scope)
        try:
            body = await BufferedBody.read(scope, receive, max_bytes=MAX_BODY_BYTES)
            if body is None:
                return
            words = count_words(state.document(body.data))
            if words > self.max_words:
                raise InvalidRequestError(
                    f"The messages have {words} words; {self.max_words} are allowed.",
                    param="messages",
                    code="too_many_words",
                )
        except LLMError as error:
            state.set(FAILURE, error)
            await send_error(send, state, error)
            return
        await observe(self.app, scope, body.receive, send, _Remainder(self.max_words - words))


class _Remainder(Observer):
    def __init__(self, words: int) -> None:
        self._words = words

    async def on_start(self, status: int, headers: RawHeaders) -> None:
        headers.append((b"x-words-remaining", b"%d" % self._words))


def count_words(document: Any) -> int:
    """Words of all messages that are plain text; whatever is malformed is for the app to refuse."""
    messages = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(messages, list):
        return 0
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    return sum(len(content.split()) for content in contents if isinstance(content, str))
