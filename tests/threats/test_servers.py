"""Ambiguous messages under every server that we say we run under."""

from __future__ import annotations

from typing import Literal

import pytest

from asgi_llm.testing import Upstream
from asgi_llm.testing.serving import serve
from tests.threats.conftest import Door
from tests.threats.test_wire import SMUGGLING

Http = Literal["httptools", "h11"]

SERVERS: list[tuple[Literal["uvicorn", "hypercorn", "granian"], Http | None]] = [
    ("uvicorn", "h11"),
    ("uvicorn", "httptools"),
    ("hypercorn", None),
    ("granian", None),
]

# What the servers do instead of refusing. Each gives the message one meaning only.
REACHED = b"reached with b''"
LET_PASS = {
    # Joined with a space, as RFC 9112, 5.2 allows.
    ("uvicorn", "h11", "folded header"): REACHED,
    ("hypercorn", None, "folded header"): REACHED,
    # The length is taken off, and the connection closed after the answer: RFC 9112, 6.3.
    ("granian", None, "length and chunked"): REACHED,
    # Its `receive` raises.
    ("granian", None, "bare line feed ends a chunk"): b"Internal server error",
}


@pytest.mark.parametrize(("server", "http"), SERVERS)
async def test_a1_ambiguous_framing_has_no_second_meaning(
    server: Literal["uvicorn", "hypercorn", "granian"], http: Http | None
) -> None:
    """It is refused by the server or by us, or never answered; what passes has one meaning."""
    async with serve("tests.threats.reached:app", server, http=http) as url:
        door = Door(url, Upstream())
        plain = await door.post(b"{}", path="/")
        assert plain.body == b"reached with b'{}'"
        for case, rest in SMUGGLING.items():
            try:
                answer = await door.send(
                    b"POST / HTTP/1.1\r\nhost: x\r\n" + rest, timeout_seconds=0.5
                )
            except TimeoutError:
                continue
            if (server, http, case) in LET_PASS:
                assert (case, answer.body) == (case, LET_PASS[server, http, case])
            else:
                assert (case, answer.status in (0, 400, 501)) == (case, True)
