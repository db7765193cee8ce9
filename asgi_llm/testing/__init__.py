"""The public test kit: a scripted upstream, ASGI in process, and a clock.

``asgi_llm.testing.serving`` runs an app under a real server and ``asgi_llm.testing.conformance``
tests a layer; both are imported on their own.
"""

from __future__ import annotations

from asgi_llm.testing.chat import chat_answer, chat_events, error_answer, tokens_of, usage_of
from asgi_llm.testing.clock import ManualClock
from asgi_llm.testing.exchange import Exchange, call
from asgi_llm.testing.ledger import ReceivedRequest, Served
from asgi_llm.testing.recorder import Recorder
from asgi_llm.testing.replies import (
    Close,
    Reply,
    Reset,
    Signal,
    Step,
    Wait,
    json_reply,
    raw_reply,
    sse_reply,
)
from asgi_llm.testing.scopes import http_scope, lifespan_scope, websocket_scope
from asgi_llm.testing.threaded import ThreadedUpstream
from asgi_llm.testing.upstream import Handler, Upstream

__all__ = [
    "Close",
    "Exchange",
    "Handler",
    "ManualClock",
    "ReceivedRequest",
    "Recorder",
    "Reply",
    "Reset",
    "Served",
    "Signal",
    "Step",
    "ThreadedUpstream",
    "Upstream",
    "Wait",
    "call",
    "chat_answer",
    "chat_events",
    "error_answer",
    "http_scope",
    "json_reply",
    "lifespan_scope",
    "raw_reply",
    "sse_reply",
    "tokens_of",
    "usage_of",
    "websocket_scope",
]
