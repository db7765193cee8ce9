"""An app that reads a body as all layers do, and says that it was reached."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from asgi_llm._asgi import BufferedBody, send_error
from asgi_llm.errors import InvalidRequestError
from asgi_llm.state import enter


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    scope, state = enter(scope)
    try:
        body = await BufferedBody.read(scope, receive, max_bytes=1000)
    except InvalidRequestError as error:
        await send_error(send, state, error)
        return
    if body is not None:
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b"reached with %r" % body.data})
