"""A management request that was read, and who acts on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from asgi_llm.gateway.admin._bodies import Body
from asgi_llm.gateway.admin._reading import Listing
from asgi_llm.gateway.admin._records import Caller
from asgi_llm.gateway.admin._routes import Operation

__all__ = ["Act", "Request"]


class Request(NamedTuple):
    """What was asked for, by whom."""

    caller: Caller
    id: str
    """Of the path; empty where it has none."""
    body: Body
    listing: Listing


Act = Callable[[Operation, Request], Awaitable[Any]]
"""Does what an operation says, and gives what the answer says."""
