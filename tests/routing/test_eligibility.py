"""Which targets may serve a request: what they can, and what a policy and a caller's key allow."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.providers.capabilities import PROVIDER_TYPES, Capabilities, Embeddings
from asgi_llm.routing.eligibility import Policy, max_price, route_allowed, why_not
from asgi_llm.types import Principal
from tests.routing.conftest import target

ANY = Policy()
TEXT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
BARE = Capabilities(
    operations=frozenset(("chat", "embeddings")),
    streaming=False,
    tools=False,
    image_data=False,
    image_urls=False,
    documents=False,
    audio_in=False,
    audio_out=False,
    structured_output="none",
    thinking=False,
    logprobs=False,
    choices="none",
    seed=False,
    embeddings=Embeddings(dimensions=False),
)


def part(**content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [content]}]}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (TEXT, None),
        ({**TEXT, "stream": True}, "it has no streams"),
        ({**TEXT, "tools": [TOOL]}, "it has no tools"),
        ({**TEXT, "functions": [{"name": "f"}]}, "it has no tools"),
        ({**TEXT, "n": 2}, "it has no several choices"),
        ({**TEXT, "n": 1}, None),
        ({**TEXT, "logprobs": True}, "it has no log probabilities"),
        ({**TEXT, "seed": 0}, "it has no a seed"),
        (
            {**TEXT, "response_format": {"type": "json_schema", "json_schema": {}}},
            "it has no structured output",
        ),
        ({**TEXT, "response_format": {"type": "json_object"}}, None),
        ({**TEXT, "reasoning_effort": "high"}, "it has no thinking"),
        ({**TEXT, "reasoning_effort": "none"}, None),
        ({**TEXT, "modalities": ["text", "audio"]}, "it has no audio output"),
        (
            part(type="image_url", image_url={"url": "https://example.org/a.png"}),
            "it has no images by URL",
        ),
        (part(type="image_url", image_url={"url": "data:image/png;base64,"}), "it has no images"),
        (part(type="file", file={}), "it has no documents"),
        (part(type="input_audio", input_audio={}), "it has no audio input"),
        (part(type="text", text="hello"), None),
    ],
)
def test_a_target_is_not_asked_for_what_it_cannot_do(
    document: dict[str, Any], reason: str | None
) -> None:
    """It says what is missing; a target that can do everything, or is not known, is asked."""
    assert reason == why_not(target(capabilities=BARE), "chat", document, ANY)
    assert None is why_not(target(), "chat", document, ANY)
    everything = PROVIDER_TYPES["openai"].capabilities
    assert None is why_not(target(capabilities=everything), "chat", document, ANY)


def test_images_that_are_fetched_here_need_no_urls_there() -> None:
    """But images at all."""
    sighted = Capabilities(operations=frozenset(("chat",)), image_data=True, image_urls=False)
    document = part(type="image_url", image_url={"url": "https://example.org/a.png"})
    there = target(capabilities=sighted)
    assert None is why_not(there, "chat", document, Policy(fetch_images=True))
    assert "it has no images by URL" == why_not(there, "chat", document, ANY)


def test_an_operation_that_a_target_has_not() -> None:
    """It is named; so is a length of vectors that cannot be chosen."""
    there = target(capabilities=BARE)
    assert "it has no speech" == why_not(there, "speech", {"input": "hello"}, ANY)
    wanted = {"input": "hello", "dimensions": 8}
    assert "it has no dimensions" == why_not(there, "embeddings", wanted, ANY)


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({}, True),
        ({"max_tokens": 90}, True),
        ({"max_tokens": 91}, False),
        ({"max_completion_tokens": 91}, False),
        ({"max_tokens": None, "max_completion_tokens": 91}, False),
        ({"max_tokens": None}, True),
    ],
)
def test_input_and_output_fit_into_the_context(fields: dict[str, Any], fits: bool) -> None:
    """10 tokens of input, by their characters, leave 90 of a context of 100."""
    document = {"messages": [{"role": "user", "content": "x" * 36}], **fields}
    reason = why_not(target(context_tokens=100), "chat", document, ANY)
    assert fits == (reason is None), reason


def test_a_text_that_is_too_long_is_not_sent() -> None:
    """The reason has the figures."""
    document = {"messages": [{"role": "user", "content": "x" * 3996}]}
    assert "its context of 100 tokens is too small for some 1000" == why_not(
        target(context_tokens=100), "chat", document, ANY
    )


def test_more_output_than_a_target_writes_is_not_asked_for() -> None:
    """Where its bound is known."""
    there = target(max_output_tokens=100)
    assert None is why_not(there, "chat", {**TEXT, "max_tokens": 100}, ANY)
    assert "it writes at most 100 tokens" == why_not(
        there, "chat", {**TEXT, "max_tokens": 101}, ANY
    )


def test_data_goes_to_no_other_region() -> None:
    """Nor to one that is not known."""
    policy = Policy(regions=frozenset(("eu", "ch")))
    assert None is why_not(target(region="ch"), "chat", TEXT, policy)
    assert "its region (us) is not allowed" == why_not(target(region="us"), "chat", TEXT, policy)
    assert "its region (not known) is not allowed" == why_not(target(), "chat", TEXT, policy)
    nowhere = Policy(regions=frozenset())
    assert None is not why_not(target(region="eu"), "chat", TEXT, nowhere)


def test_a_fallback_costs_no_more_than_allowed() -> None:
    """At most so many times the first choice; an unknown price is too high."""
    policy = Policy(max_price=max_price(target(price=2.0), 1.5))
    assert None is why_not(target(price=3.0), "chat", TEXT, policy)
    assert "it costs too much" == why_not(target(price=3.01), "chat", TEXT, policy)
    assert "its price is not known" == why_not(target(), "chat", TEXT, policy)
    assert None is max_price(target(), 1.5)
    free = Policy(max_price=max_price(target(price=0.0), 2.0))
    assert None is not why_not(target(price=0.1), "chat", TEXT, free)


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan")])
def test_a_ratio_of_prices_is_above_0(ratio: float) -> None:
    """Else the option is named."""
    with pytest.raises(ConfigurationError) as caught:
        max_price(target(price=1.0), ratio)
    assert "max_price_ratio" == caught.value.param


@pytest.mark.parametrize(
    ("models", "allowed"),
    [
        (None, True),
        (("fast", "careful"), True),
        (("care*",), True),
        (("claude/*",), True),
        (("fast", "claude/m"), True),
        (("fast",), False),
        ((), False),
    ],
)
def test_a_key_decides_which_routes_may_serve(
    models: tuple[str, ...] | None, allowed: bool
) -> None:
    """By the name of the fallback's route, or by the target's own."""
    principal = Principal(models=models)
    assert allowed == route_allowed(principal, "careful", target("claude"))


def test_without_a_caller_every_route_may_serve() -> None:
    """There is no layer of keys."""
    assert route_allowed(None, "careful", target("claude"))
