"""What is the memory store's own: its bound, and what a policy may say."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.breakers import BreakerPolicy
from asgi_llm.stores.breakers_memory import MemoryBreakers
from asgi_llm.testing import ManualClock


def test_it_remembers_so_many_and_no_more() -> None:
    """Closed ones make room, oldest first; what is open goes last."""
    policy = BreakerPolicy(failures=1, minimum_calls=1)
    store = MemoryBreakers(policy=policy, max_targets=3)
    store.failed("open/m")
    for number in range(100):
        store.succeeded(f"a/{number}")
        assert len(store) <= 3
    assert None is not store.standing("open/m")
    for number in range(3):
        store.failed(f"b/{number}")
    assert 3 == len(store)
    assert None is store.standing("open/m")
    assert None is not store.standing("b/2")


def test_what_is_forgotten_while_open_is_closed() -> None:
    """A look after the hour finds it closed, and new failures count from nothing."""
    clock = ManualClock(900.0)
    policy = BreakerPolicy(failures=2, minimum_calls=2, cool_down_seconds=10.0, jitter=0.0)
    store = MemoryBreakers(policy=policy, clock=clock)
    store.failed("a/m")
    store.failed("a/m")
    assert {"a/m"} == set(store.health()["not_closed"])
    clock.advance(10.0 + 3600.0)
    assert {"not_closed": {}} == store.health()
    assert None is store.standing("a/m")
    store.failed("a/m")
    assert None is store.standing("a/m")


def test_at_least_one_target_is_remembered() -> None:
    """Else the option is named."""
    with pytest.raises(ConfigurationError) as caught:
        MemoryBreakers(max_targets=0)
    assert "max_targets" == caught.value.param


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("failures", 0),
        ("minimum_calls", 0),
        ("failure_rate", 0.0),
        ("failure_rate", 1.01),
        ("window_seconds", 0.0),
        ("cool_down_seconds", -1.0),
        ("cool_down_seconds", float("nan")),
        ("trial_seconds", float("inf")),
        ("max_cool_down_seconds", 4.9),
        ("max_cool_down_seconds", float("inf")),
        ("jitter", 1.0),
        ("jitter", -0.1),
        ("max_retry_after_seconds", -1.0),
        ("max_retry_after_seconds", float("nan")),
    ],
)
def test_a_policy_out_of_range_is_refused(name: str, value: Any) -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as caught:
        BreakerPolicy(**{name: value})
    assert name == caught.value.param
