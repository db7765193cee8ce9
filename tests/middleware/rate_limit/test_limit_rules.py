"""Limits as people write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._limit_rules import amount_words, check_limit, read_limits
from asgi_llm.middleware.rate_limit import parse_limit
from asgi_llm.types import Limit

TEXTS: dict[str, Limit] = {
    "60 requests/minute": Limit(unit="requests", amount=60, window_seconds=60),
    "1 request/second": Limit(unit="requests", amount=1, window_seconds=1),
    "60 requests / minute per user": Limit(
        unit="requests", amount=60, window_seconds=60, scope="user"
    ),
    "60 requests per minute per key": Limit(
        unit="requests", amount=60, window_seconds=60, scope="key"
    ),
    "100_000 tokens/day per team": Limit(
        unit="tokens", amount=100_000, window_seconds=86_400, scope="team"
    ),
    "5 input tokens/hour per organization": Limit(
        unit="input_tokens", amount=5, window_seconds=3600, scope="organization"
    ),
    "0 output tokens/30 seconds per model": Limit(
        unit="output_tokens", amount=0, window_seconds=30, scope="model"
    ),
    "9 requests/minute per key and model": Limit(
        unit="requests", amount=9, window_seconds=60, scope="key_and_model"
    ),
    "9 requests/minute per address burst 20": Limit(
        unit="requests", amount=9, window_seconds=60, scope="address", burst=20
    ),
    "9 Requests/Minute per everyone": Limit(
        unit="requests", amount=9, window_seconds=60, scope="everyone"
    ),
    "10 concurrent requests": Limit(unit="concurrent_requests", amount=10),
    "1 concurrent request per caller": Limit(unit="concurrent_requests", amount=1),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_read(text: str) -> None:
    """Every form that the reference names gives its limit."""
    assert TEXTS[text] == parse_limit(text)


UNREADABLE = (
    "",
    "requests/minute",
    "-1 requests/minute",
    "1.5 requests/minute",
    "1e9 requests/minute",
    "1e309 tokens/minute",
    "NaN tokens/minute",
    "\u0661\u0662 requests/minute",
    "true requests/minute",
    "9" * 5000 + " requests/minute",
    "1000000000001 requests/minute",
    "60 requests",
    "60 requests/0 seconds",
    "60 requests/-5 seconds",
    "60 requests/1.5 seconds",
    "60 requests/99999999 seconds",
    "60 requests/fortnight",
    "60 requests/minute per planet",
    "60 requests/minute burst",
    "60 requests/minute burst 0",
    "60 requests/minute and more",
    "60 bananas/minute",
    "10 concurrent requests/minute",
    "10 concurrent requests burst 5",
)


@pytest.mark.parametrize("text", UNREADABLE)
def test_b14_b35_what_is_no_limit_is_refused_by_its_own_text(text: str) -> None:
    """Negative, fractional, huge and senseless limits are refused; the error names the text."""
    with pytest.raises(ConfigurationError) as caught:
        parse_limit(text)
    assert repr(text) in caught.value.message


@given(st.text(max_size=60))
def test_any_text_is_a_limit_or_a_configuration_error(text: str) -> None:
    """Nothing that anybody may write raises anything else."""
    try:
        limit = parse_limit(text)
    except ConfigurationError:
        return
    assert limit is check_limit(limit)


BAD_LIMITS: dict[str, dict[str, Any]] = {
    "amount": {"amount": -1},
    "window_seconds": {"window_seconds": 0},
    "burst": {"burst": 0},
    "unit": {"unit": "bananas"},
    "scope": {"scope": "planet"},
}
GOOD = {"unit": "requests", "amount": 5, "window_seconds": 60}


@pytest.mark.parametrize("field", BAD_LIMITS)
@pytest.mark.parametrize("value", ("as it stands", True, 1.5, 10**13))
def test_b35_a_limit_is_checked_field_by_field(field: str, value: Any) -> None:
    """A struct is no way around the checks: the error names the field that is out of range."""
    wrong = BAD_LIMITS[field] if value == "as it stands" else {field: value}
    with pytest.raises(ConfigurationError) as caught:
        check_limit(Limit(**{**GOOD, **wrong}))
    assert field == caught.value.param


def test_a_mapping_is_read() -> None:
    """The form of the configuration gives one limit for each key, all of its scope."""
    found = read_limits(
        {
            "requests_per_minute": 10,
            "input_tokens_per_day": 20_000,
            "concurrent_requests": 5,
            "scope": "user",
        },
        option="limits",
    )
    assert (
        Limit(unit="requests", amount=10, window_seconds=60, scope="user"),
        Limit(unit="input_tokens", amount=20_000, window_seconds=86_400, scope="user"),
        Limit(unit="concurrent_requests", amount=5, scope="user"),
    ) == found


@pytest.mark.parametrize(
    ("rules", "param", "said"),
    (
        ({"request_per_minute": 1}, "limits.request_per_minute", "mean requests_per_minute"),
        ({"requests_per_minute": -1}, "limits.requests_per_minute", "requests_per_minute is -1"),
        ({"requests_per_minute": True}, "limits.requests_per_minute", "is True"),
        ({"tokens_per_day": 1e309}, "limits.tokens_per_day", "is inf"),
        ({"tokens_per_day": 1, "scope": "planet"}, "limits.scope", "planet"),
        (["1 requests/minute", "nonsense"], "limits[1]", "'nonsense'"),
        (["1 requests/minute", 5], "limits[1]", "5"),
        (["1 requests/minute", "2 requests/minute"], "limits", "two limits of requests"),
        (7, "limits", "7"),
    ),
)
def test_b35_an_error_of_the_configuration_says_where_it_is(
    rules: Any, param: str, said: str
) -> None:
    """``param`` is the place, and the message says what is wrong there."""
    with pytest.raises(ConfigurationError) as caught:
        read_limits(rules, option="limits")
    assert param == caught.value.param
    assert said in caught.value.message


def test_a_single_text_is_one_limit() -> None:
    """A text in the place of a list is not taken for a list of letters."""
    assert (parse_limit("1 requests/minute"),) == read_limits("1 requests/minute", option="limits")


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("60 requests/minute per user burst 5", "60 requests per minute"),
        ("1 request/day", "1 request per day"),
        ("7 output tokens/30 seconds", "7 output tokens per 30 seconds"),
        ("2 concurrent requests", "2 concurrent requests"),
    ),
)
def test_a_limit_is_told_in_words(text: str, words: str) -> None:
    """How much it lets through, as an error says it."""
    assert words == amount_words(parse_limit(text))
