"""The scripted upstream in a thread, for clients that block."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from openai import OpenAI

from asgi_llm.testing import (
    ReceivedRequest,
    Reply,
    ThreadedUpstream,
    Upstream,
    Wait,
    chat_events,
    json_reply,
    sse_reply,
)


@pytest.fixture
def upstream() -> Iterator[ThreadedUpstream]:
    with Upstream.in_thread() as upstream:
        yield upstream


def test_a_blocking_sdk_streams_from_it(upstream: ThreadedUpstream) -> None:
    """The official client reads the events, and the ledger agrees with what it read."""
    upstream.script(sse_reply(chat_events("Four little words here."), split=7))
    with (
        OpenAI(api_key="k", base_url=upstream.url + "/v1", max_retries=0) as client,
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
        ) as stream,
    ):
        chunks = list(stream)
    text = "".join(one.delta.content or "" for chunk in chunks for one in chunk.choices)
    (row,) = upstream.served(1)
    assert "Four little words here." == text == row.text
    assert chunks[-1].usage is not None
    assert 4 == chunks[-1].usage.completion_tokens == row.output_tokens
    assert "/v1/chat/completions" == row.request.target
    assert (1, []) == (upstream.connections, upstream.failures)


def test_a_stall_goes_on_when_the_test_says_so(upstream: ThreadedUpstream) -> None:
    """The event of a Wait is set from the test's thread."""
    event = asyncio.Event()
    upstream.script(json_reply("late", before=[Wait(event)]))
    answers: list[bytes] = []

    def ask() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=5)) as client:
            client.request("GET", "/")
            answers.append(client.getresponse().read())

    asking = threading.Thread(target=ask)
    asking.start()
    (row,) = upstream.arrived(1)
    assert not row.done
    upstream.set(event)
    asking.join(5)
    assert [b'"late"'] == answers
    upstream.until(lambda: upstream.open_connections == 0)


def test_idle_connections_and_the_listener_are_controlled(upstream: ThreadedUpstream) -> None:
    """A kept connection can be dropped, and new ones refused and taken again."""
    upstream.script(json_reply("ok"))
    with closing(http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=5)) as client:
        client.request("GET", "/")
        assert b'"ok"' == client.getresponse().read()
        upstream.drop_connections()
        assert 0 == upstream.open_connections
        upstream.stop_listening()
        with pytest.raises(http.client.RemoteDisconnected):
            client.request("GET", "/")
            client.getresponse()
        with pytest.raises(ConnectionRefusedError):
            client.connect()
        upstream.listen()
        client.close()
        client.request("GET", "/again")
        assert b'"ok"' == client.getresponse().read()
    assert ["/", "/again"] == [row.request.target for row in upstream.served(2)]


def test_a_failing_handler_fails_the_test_and_leaves_no_thread() -> None:
    """It runs in the upstream's thread; its exception comes back at the end of the block."""
    names: list[str] = []

    def handler(request: ReceivedRequest) -> Reply:
        names.append(threading.current_thread().name)
        raise AssertionError("wrong request")

    with (
        pytest.raises(AssertionError, match="wrong request"),
        Upstream.in_thread(handler) as upstream,
        closing(http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=5)) as client,
    ):
        client.request("GET", "/")
        assert 500 == client.getresponse().status
    assert ["asgi-llm-upstream"] == names
    assert "asgi-llm-upstream" not in [thread.name for thread in threading.enumerate()]


def test_an_upstream_that_cannot_listen_leaves_no_thread(upstream: ThreadedUpstream) -> None:
    """The error of the socket comes out of entering."""
    with pytest.raises(OSError, match="in use"), Upstream.in_thread(port=upstream.port):
        pass
    threads = [one for one in threading.enumerate() if one.name == "asgi-llm-upstream"]
    assert 1 == len(threads)
