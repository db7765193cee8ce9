"""What each failure means for the next step, how long to wait for that, and how often."""

from __future__ import annotations

import asyncio
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from asgi_llm.errors import (
    ConfigurationError,
    ContentFilterError,
    InvalidRequestError,
    ModelNotFoundError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RateLimitError,
    StoreError,
)
from asgi_llm.providers._errors import parse_error, parse_stream_error
from asgi_llm.routing.retries import Backoff, Failure, RetryBudget, classify
from asgi_llm.testing import ManualClock

# What the upstream said, and: kind, then, counts, cools down, fallback.
UPSTREAM: list[tuple[int, dict[str, str], bytes, tuple[Any, ...]]] = [
    (400, {}, b'{"error":{"message":"bad"}}', ("rejected", "stop", False, False, None)),
    (401, {}, b"", ("authentication", "next", True, False, "errors")),
    (402, {}, b"", ("quota", "next", True, False, "errors")),
    (403, {}, b"", ("authentication", "next", True, False, "errors")),
    (404, {}, b"", ("model_not_found", "next", False, False, "errors")),
    (
        404,
        {},
        b'{"error":{"message":"no such","code":"model_not_found"}}',
        ("model_not_found", "next", False, False, "errors"),
    ),
    (408, {}, b"", ("timeout", "next", True, False, "errors")),
    (409, {}, b"", ("rejected", "same", False, False, "errors")),
    (413, {}, b"", ("too_large", "next", False, False, "errors")),
    (422, {}, b"", ("rejected", "stop", False, False, None)),
    (429, {}, b"", ("rate_limited", "same", True, False, "errors")),
    (429, {"retry-after": "7"}, b"", ("rate_limited", "same", False, True, "errors")),
    (429, {"retry-after": "-1"}, b"", ("rate_limited", "same", True, False, "errors")),
    (429, {"retry-after": "soon"}, b"", ("rate_limited", "same", True, False, "errors")),
    (429, {"retry-after": "0"}, b"", ("rate_limited", "same", True, False, "errors")),
    (
        429,
        {},
        b'{"error":{"message":"pay","code":"insufficient_quota"}}',
        ("quota", "next", True, False, "errors"),
    ),
    (451, {}, b"", ("rejected", "stop", False, False, None)),
    (500, {}, b"", ("unavailable", "same", True, False, "errors")),
    (502, {}, b"<html>", ("unavailable", "same", True, False, "errors")),
    (503, {}, b"", ("overloaded", "same", True, False, "errors")),
    (503, {"retry-after": "7"}, b"", ("overloaded", "same", True, True, "errors")),
    (504, {}, b"", ("timeout", "next", True, False, "errors")),
    (524, {}, b"", ("timeout", "next", True, False, "errors")),
    (529, {}, b"", ("overloaded", "same", True, False, "errors")),
    (302, {}, b"", ("broken_off", "next", True, False, "errors")),
    (
        400,
        {},
        b'{"error":{"message":"long","code":"context_length_exceeded"}}',
        ("context_length", "stop", False, False, "context_length"),
    ),
    (
        500,
        {},
        b'{"error":{"message":"maximum context length is 8192 tokens"}}',
        ("context_length", "stop", False, False, "context_length"),
    ),
    (
        403,
        {},
        b'{"error":{"message":"filtered","code":"content_filter"}}',
        ("content_filter", "stop", False, False, "content_filter"),
    ),
]


def row(failure: Failure | None) -> tuple[Any, ...]:
    assert failure is not None
    return (
        failure.kind,
        failure.then,
        failure.counts_against_breaker,
        failure.cools_down,
        failure.fallback,
    )


@pytest.mark.parametrize(("status", "headers", "body", "expected"), UPSTREAM)
def test_an_upstream_error_is_classified(
    status: int, headers: dict[str, str], body: bytes, expected: tuple[Any, ...]
) -> None:
    """As the provider's own adapter maps it, with the error or with no more than its code."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    error = parse_error(status, raw, body, provider="a")
    assert expected == row(classify(error, status=status, error_code=error.code))
    by_code = classify(
        None,
        status=status,
        error_code=error.code,
        retry_after_seconds=error.retry_after_seconds,
    )
    assert expected == row(by_code)


def test_the_time_to_wait_is_passed_on() -> None:
    """As long as it is, also where it cools nothing down."""
    error = ProviderRejectedError("slow down", status=429, retry_after_seconds=7.0)
    failure = classify(error, status=429)
    assert failure is not None
    assert 7.0 == failure.retry_after_seconds
    failure = classify(error, status=429, retry_after_seconds=2.0)
    assert failure is not None
    assert 2.0 == failure.retry_after_seconds
    failure = classify(None, status=500, retry_after_seconds=3.0)
    assert failure is not None
    assert (3.0, False) == (failure.retry_after_seconds, failure.cools_down)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("-inf")])
def test_a_time_to_wait_that_is_none_is_left_out(seconds: float) -> None:
    """Then a 429 counts as a failure."""
    failure = classify(None, status=429, retry_after_seconds=seconds)
    assert failure is not None
    assert None is failure.retry_after_seconds
    assert ("rate_limited", "same", True, False, "errors") == row(failure)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"error": {"type": "overloaded_error"}}, ("overloaded", "same", True, False, "errors")),
        ({"error": {"type": "rate_limit_error"}}, ("rate_limited", "same", True, False, "errors")),
        ({"error": {"message": "?"}}, ("unavailable", "same", True, False, "errors")),
        (
            {"error": {"type": "invalid_request_error", "message": "?"}},
            ("rejected", "stop", False, False, None),
        ),
    ],
)
def test_an_error_in_an_answer_that_began_well_is_classified(
    event: Any, expected: tuple[Any, ...]
) -> None:
    """The upstream's status was 200."""
    error = parse_stream_error(event, provider="a")
    assert expected == row(classify(error, status=200, error_code=error.code))


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (
            ProviderUnavailableError("refused"),
            None,
            ("unreachable", "same", True, False, "errors"),
        ),
        (ProviderTimeoutError("slow"), None, ("timeout", "next", True, False, "errors")),
        (TimeoutError(), None, ("timeout", "next", True, False, "errors")),
        (
            ProviderUnavailableError("cut", code="connection_lost"),
            200,
            ("broken_off", "next", True, False, "errors"),
        ),
        (
            ProviderUnavailableError("cut", code="stream_truncated"),
            200,
            ("broken_off", "next", True, False, "errors"),
        ),
        (
            ProviderUnavailableError("html", code="invalid_provider_response"),
            200,
            ("broken_off", "next", True, False, "errors"),
        ),
        (
            ProviderUnavailableError("expired", code="provider_authentication_failed"),
            None,
            ("authentication", "next", True, False, "errors"),
        ),
        (
            InvalidRequestError("no audio there", code="unsupported_content_part"),
            None,
            ("not_supported", "next", False, False, "errors"),
        ),
        (
            ModelNotFoundError("not in its list"),
            None,
            ("not_supported", "next", False, False, "errors"),
        ),
        (
            InvalidRequestError("measured here", code="context_length_exceeded"),
            None,
            ("context_length", "stop", False, False, "context_length"),
        ),
        (InvalidRequestError("malformed"), None, ("invalid", "stop", False, False, None)),
        (ContentFilterError("a guard of ours"), None, ("invalid", "stop", False, False, None)),
        (RateLimitError("of ours"), None, ("invalid", "stop", False, False, None)),
        (OSError("the client's socket"), None, ("client_left", "stop", False, False, None)),
        (asyncio.CancelledError(), None, ("client_left", "stop", False, False, None)),
        (StoreError("ours"), None, ("internal", "stop", False, False, None)),
        (ValueError("ours"), None, ("internal", "stop", False, False, None)),
    ],
)
def test_a_failure_without_an_error_status_is_classified(
    error: BaseException, status: int | None, expected: tuple[Any, ...]
) -> None:
    """What was raised, with the status of an answer that came or without one."""
    assert expected == row(classify(error, status=status))


@pytest.mark.parametrize("status", [None, 200, 204])
def test_an_answer_is_no_failure(status: int | None) -> None:
    """Where there is no error and no code."""
    assert None is classify(None, status=status)


def test_a_code_without_its_error_is_a_failure() -> None:
    """The answer began well, and no more is known than that it did not end so."""
    failure = classify(None, status=200, error_code="something_else")
    assert ("broken_off", "next", True, False, "errors") == row(failure)
    failure = classify(None, error_code="something_else")
    assert ("unreachable", "same", True, False, "errors") == row(failure)


@pytest.mark.parametrize(("status", "headers", "body", "expected"), UPSTREAM)
def test_nothing_is_tried_again_once_a_byte_was_sent(
    status: int, headers: dict[str, str], body: bytes, expected: tuple[Any, ...]
) -> None:
    """Whatever went wrong; it counts against the target all the same."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    failure = classify(parse_error(status, raw, body, provider="a"), status=status, bytes_sent=True)
    assert (expected[0], "stop", expected[2], expected[3], None) == row(failure)


@given(
    status=st.integers(400, 499).filter(lambda one: one not in (401, 402, 403, 407, 408, 429)),
    retry_after=st.none() | st.floats(0.0, 10.0),
)
def test_a_clients_own_mistake_never_counts(status: int, retry_after: float | None) -> None:
    """No 4xx that the request caused speaks against the target or cools it down."""
    failure = classify(None, status=status, retry_after_seconds=retry_after)
    assert failure is not None
    assert not failure.counts_against_breaker
    assert not failure.cools_down


@pytest.mark.parametrize(
    ("kind", "concerns"),
    [("rejected", True), ("timeout", True), ("not_supported", False), ("client_left", False)],
)
def test_what_was_never_asked_tells_nothing_of_the_target(kind: Any, concerns: bool) -> None:
    """Only what came from the target concerns it."""
    assert concerns == Failure(kind=kind, then="stop").concerns_target


# Backoff


@given(
    base=st.floats(0.01, 2.0),
    factor=st.floats(1.0, 5.0),
    cap=st.floats(2.0, 60.0),
    retry=st.integers(0, 200),
    drawn=st.floats(0.0, 1.0, exclude_max=True),
)
def test_a_wait_is_within_its_bounds(
    base: float, factor: float, cap: float, retry: int, drawn: float
) -> None:
    """A share of base times factor to the power of the retry, and never above the cap."""
    backoff = Backoff(base_seconds=base, factor=factor, cap_seconds=cap)
    wait = backoff.wait_seconds(retry, lambda: drawn)
    assert wait is not None
    assert 0 <= wait <= cap
    assert pytest.approx(drawn * min(cap, base * factor**retry)) == wait


@given(
    asked=st.floats(0.0, 100.0),
    drawn=st.floats(0.0, 1.0, exclude_max=True),
    left=st.floats(0.1, 100.0),
    retry=st.integers(0, 10),
)
def test_what_the_provider_asks_for_is_waited_for_first(
    asked: float, drawn: float, left: float, retry: int
) -> None:
    """Up to the longest time that is waited for, and only within the request's deadline."""
    backoff = Backoff(base_seconds=0.5, cap_seconds=4.0, max_retry_after_seconds=20.0)
    own = backoff.wait_seconds(retry, lambda: drawn)
    assert own is not None
    wait = backoff.wait_seconds(retry, lambda: drawn, retry_after_seconds=asked, left_seconds=left)
    if asked > 20.0 or own + asked >= left:
        assert None is wait
    else:
        assert own + asked == wait


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_seconds", 0.0),
        ("factor", 0.5),
        ("cap_seconds", 0.2),
        ("cap_seconds", float("inf")),
        ("max_retry_after_seconds", -1.0),
        ("max_retry_after_seconds", float("nan")),
    ],
)
def test_the_figures_of_a_backoff_are_checked(name: str, value: float) -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as caught:
        Backoff(**{name: value})
    assert name == caught.value.param


# RetryBudget


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("requests"), st.integers(1, 50)),
            st.tuples(st.just("retries"), st.integers(1, 50)),
            st.tuples(st.just("seconds"), st.integers(1, 64)),
        ),
        max_size=60,
    ),
    share=st.sampled_from([0.0, 0.125, 0.25, 1.0]),
)
def test_over_any_time_retries_are_within_the_budget(
    steps: list[tuple[str, int]], share: float
) -> None:
    """From each moment to each later one: a share of the requests, the floor, and the burst."""
    clock = ManualClock()
    budget = RetryBudget(share=share, floor_per_second=0.125, burst=4.0, clock=clock)
    moments = [(0, 0, 0.0)]
    requests = retries = 0
    for name, amount in steps:
        for _ in range(amount):
            if name == "requests":
                requests += 1
                budget.requested()
            elif name == "retries":
                retries += budget.take()
            else:
                clock.advance(0.25)
        moments.append((requests, retries, clock()))
    for place, (asked, tried, at) in enumerate(moments):
        for later_asked, later_tried, later in moments[place:]:
            allowed = share * (later_asked - asked) + 0.125 * (later - at) + 4.0
            assert later_tried - tried <= allowed


def test_at_total_failure_a_tenth_of_the_requests_is_tried_again() -> None:
    """500 a second for a minute, each of which would be retried twice: 10 % and the floor."""
    clock = ManualClock()
    budget = RetryBudget(clock=clock)
    retries = 0
    for _ in range(30_000):
        clock.advance(1 / 512)
        budget.requested()
        retries += budget.take() + budget.take()
    assert 3000 <= retries <= 3000 + 10 + 0.2 * clock()


def test_few_requests_can_be_tried_again_too() -> None:
    """One request a minute that fails each time is retried each time."""
    clock = ManualClock()
    budget = RetryBudget(burst=1.0, clock=clock)
    for _ in range(100):
        clock.advance(60.0)
        budget.requested()
        assert budget.take()
        assert not budget.take()


def test_time_without_requests_saves_up_no_more_than_the_burst() -> None:
    """After a day there are ten."""
    clock = ManualClock()
    budget = RetryBudget(clock=clock)
    clock.advance(86_400.0)
    assert 10 == sum(budget.take() for _ in range(100))
    for _ in range(1_000_000 // 100):
        budget.requested()
    assert 10 == sum(budget.take() for _ in range(100))


@pytest.mark.parametrize(
    ("name", "value"),
    [("share", -0.1), ("share", 1.1), ("floor_per_second", -1.0), ("burst", 0.5)],
)
def test_the_figures_of_a_budget_are_checked(name: str, value: float) -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as caught:
        RetryBudget(**{name: value})  # type: ignore[arg-type]
    assert name == caught.value.param
