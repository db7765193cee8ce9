"""Targets and routes: their ids, and what they refuse to be."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.routing.targets import Fallbacks, Route
from tests.routing.conftest import target


def test_the_id_is_the_provider_and_the_model() -> None:
    """It is the same for targets that differ in all else, unless it is given."""
    assert "a/m" == target("a").id
    assert "a/m" == target("a", weight=3.0, region="eu", price=1.0).id
    assert "mine" == target("a", id="mine").id


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight", -0.1),
        ("weight", float("inf")),
        ("weight", float("nan")),
        ("price", -1.0),
        ("price", float("nan")),
        ("context_tokens", 0),
        ("max_output_tokens", -5),
    ],
)
def test_a_figure_out_of_range_is_refused(name: str, value: Any) -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as caught:
        target(**{name: value})
    assert name == caught.value.param


def test_a_route_has_targets_and_each_once() -> None:
    """None, or one twice, is refused."""
    for targets in ((), (target("a"), target("b"), target("a", weight=2.0))):
        with pytest.raises(ConfigurationError) as caught:
            Route(name="fast", targets=targets)
        assert "targets" == caught.value.param


def test_a_route_may_fall_back_to_others() -> None:
    """To one of them for several reasons too."""
    fallbacks = Fallbacks(errors=("slow", "other"), context_length=("slow",))
    route = Route(name="fast", targets=(target("a"), target("b")), fallbacks=fallbacks)
    assert ("ordered", fallbacks) == (route.strategy, route.fallbacks)


@pytest.mark.parametrize("kind", ["errors", "context_length", "content_filter"])
def test_a_route_does_not_fall_back_to_itself(kind: str) -> None:
    """Whatever the kind of the failure."""
    with pytest.raises(ConfigurationError) as caught:
        Route(name="fast", targets=(target(),), fallbacks=Fallbacks(**{kind: ("slow", "fast")}))
    assert "fallbacks" == caught.value.param
