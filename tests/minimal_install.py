"""A check of the base install, with no extra: ``python -I tests/minimal_install.py``.

Every module that does not say otherwise below must import, and a request must be served. Uses
nothing but the package, because nothing else is there.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
import sys
from typing import Any

import asgi_llm
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.echo import Echo

# Modules that are imported only where an extra is there, and the package that they need.
NEED_AN_EXTRA = {
    "asgi_llm.gateway._database_option": "click",
    "asgi_llm.gateway._logging": "structlog",
    "asgi_llm.gateway._protocol": "uvicorn",
    "asgi_llm.gateway._reload_manager": "uvicorn",
    "asgi_llm.gateway.access_log": "structlog",
    "asgi_llm.gateway.budgets_commands": "click",
    "asgi_llm.gateway.cache_commands": "click",
    "asgi_llm.gateway.commands": "click",
    "asgi_llm.gateway.db_commands": "click",
    "asgi_llm.gateway.embedder_commands": "click",
    "asgi_llm.gateway.guard_commands": "click",
    "asgi_llm.gateway.keys_commands": "click",
    "asgi_llm.gateway.reconcile_command": "click",
    "asgi_llm.gateway.serve": "uvicorn",
    "asgi_llm.gateway.storage": "sqlalchemy",
    "asgi_llm.gateway.usage_commands": "click",
    "asgi_llm.gateway.worker_commands": "click",
    "asgi_llm.integrations.prometheus": "prometheus_client",
}
WITH_SQL = "asgi_llm.stores.sql."
"""What is below is for those who have SQLAlchemy."""


def import_everything() -> list[str]:
    """What is wrong with the imports."""
    wrong = []
    for module in pkgutil.walk_packages(asgi_llm.__path__, "asgi_llm."):
        needed = NEED_AN_EXTRA.get(module.name)
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            if needed is None and not module.name.startswith(WITH_SQL):
                wrong.append(f"{module.name} needs an extra: {error}")
        else:
            if needed is not None:
                wrong.append(f"{module.name} is said to need {needed}, and imports without")
    return wrong


async def chat() -> dict[str, Any]:
    """One chat completion, by hand: the base install brings no HTTP client."""
    document = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hello"}]}
    body = json.dumps(document).encode()
    incoming = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if incoming:
            return incoming.pop()
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    app = ProviderApp([Echo()])
    async with asyncio.timeout(30):
        await app(
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": "1.1",
                "method": "POST",
                "scheme": "http",
                "path": "/v1/chat/completions",
                "query_string": b"",
                "headers": headers,
            },
            receive,
            send,
        )
        await app.aclose()
    answer: dict[str, Any] = json.loads(b"".join(part.get("body", b"") for part in sent[1:]))
    return answer


def main() -> int:
    """0 when all is well."""
    wrong = import_everything()
    answer = asyncio.run(chat())
    if answer["choices"][0]["message"]["content"] != "Hello":
        wrong.append(f"the answer was {answer}")
    for line in wrong:
        sys.stderr.write(line + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
