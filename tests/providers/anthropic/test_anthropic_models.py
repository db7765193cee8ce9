"""What is told to which of Claude's models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._anthropic_models import model_traits
from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.types import Deployment

CLAUDE = Anthropic(api_key="sk-ant-0123456789")


def told(model: str, **more: Any) -> tuple[Any, tuple[str, ...]]:
    document = {"model": "x", "messages": [{"role": "user", "content": "hi"}], **more}
    deployment = Deployment(provider="anthropic", model=model)
    translation = CLAUDE.translate("chat", document, deployment)
    assert isinstance(translation.request.body, bytes)
    return json.loads(translation.request.body), translation.losses


@pytest.mark.parametrize(
    ("names", "cap", "thinks", "adaptively", "schemas", "samplers"),
    [
        (("claude-2.1", "claude-instant-1.2", "anthropic.claude-v2:1"), 4096, 0, 0, 0, 2),
        (("claude-3-opus-20240229", "claude-3-haiku-20240307"), 4096, 0, 0, 0, 2),
        (("claude-3-5-sonnet-20241022", "claude-3-5-haiku-latest"), 8192, 0, 0, 0, 2),
        (("claude-3-7-sonnet-20250219",), 32_000, 1, 0, 0, 2),
        (("claude-opus-4-20250514", "claude-sonnet-4@20250514"), 32_000, 1, 0, 0, 2),
        (("claude-opus-4-1-20250805",), 32_000, 1, 0, 0, 1),
        (("claude-haiku-4-5", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"), 32_000, 1, 0, 1, 1),
        (("claude-opus-4-6", "claude-sonnet-4-6"), 32_000, 1, 1, 1, 1),
        (("claude-opus-4-7", "claude-opus-4-10", "claude-sonnet-5"), 32_000, 1, 1, 1, 0),
        (("claude-mythos-preview", "claude-anything", "claude-opus-9"), 32_000, 1, 1, 1, 2),
        (("glm-4.6", "kimi-k3", "prod"), 32_000, 1, 1, 1, 2),
    ],
)
def test_case_66_a_name_says_what_a_model_lacks(
    names: tuple[str, ...], cap: int, thinks: int, adaptively: int, schemas: int, samplers: int
) -> None:
    """A name that is not known lacks nothing; only Claude 4.7 to 5 are not sampled."""
    for name in names:
        traits = model_traits(name)
        assert (cap, thinks, adaptively, schemas, samplers) == (
            traits.default_max_tokens,
            traits.thinks,
            traits.thinks_adaptively,
            traits.has_schemas,
            traits.samplers,
        )


@pytest.mark.parametrize(
    ("model", "cap", "effort", "expected", "lost"),
    [
        ("claude-sonnet-4-5", None, "low", (2048, 32_000), ()),
        ("claude-sonnet-4-5", None, "max", (32_000, 64_000), ()),
        ("claude-sonnet-4-5", 10, "minimal", (1024, 1034), ("max_tokens",)),
        ("claude-sonnet-4-5", 2048, "low", (2048, 4096), ("max_tokens",)),
        ("claude-sonnet-4-5", 2049, "low", (2048, 2049), ()),
        ("claude-opus-4-1", None, "max", (16_000, 32_000), ()),
        ("claude-opus-4-1", 20_000, "high", (16_000, 32_000), ("max_tokens",)),
        ("claude-opus-4-1", 1000, "high", (24_576, 25_576), ("max_tokens",)),
    ],
)
def test_case_58_a_budget_leaves_room_for_the_answer(
    model: str, cap: int | None, effort: str, expected: tuple[int, int], lost: tuple[str, ...]
) -> None:
    """A cap is raised as far as the model allows; it is reported where the client set it."""
    body, losses = told(model, max_tokens=cap, reasoning_effort=effort)
    assert expected == (body["thinking"]["budget_tokens"], body["max_tokens"])
    assert lost == losses


def test_case_58_efforts_of_adaptive_models() -> None:
    """One that a model lacks becomes the one below; none at all turns thinking off."""
    assert {"effort": "high"} == told("claude-opus-4-6", reasoning_effort="xhigh")[0][
        "output_config"
    ]
    assert {"effort": "xhigh"} == told("claude-opus-5", reasoning_effort="xhigh")[0][
        "output_config"
    ]
    assert {"type": "disabled"} == told("claude-opus-5", reasoning_effort="none")[0]["thinking"]
    body, losses = told("claude-3-5-haiku-latest", reasoning_effort="none")
    assert ("thinking" in body, losses) == (False, ())
    assert ("reasoning_effort",) == told("claude-3-5-haiku-latest", reasoning_effort="low")[1]
    body, losses = told("claude-opus-5", reasoning_effort="low", output_config={"effort": "max"})
    assert ({"effort": "max"}, ("reasoning_effort",)) == (body["output_config"], losses)


def test_case_58_a_budget_is_not_set_amid_calls_without_thoughts() -> None:
    """The models that think by one refuse to begin there."""
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "ok"},
    ]
    body, losses = told("claude-sonnet-4-5", messages=messages, reasoning_effort="low")
    assert ("thinking" in body, losses) == (False, ("reasoning_effort",))
    others = {"type": "thinking", "thinking": "h", "signature": "google:s"}
    messages[1]["thinking_blocks"] = [others]
    body, losses = told("claude-sonnet-4-5", messages=messages, reasoning_effort="low")
    assert ("thinking" in body, {"messages.thinking_blocks", "reasoning_effort"}) == (
        False,
        set(losses),
    )
    messages[1]["thinking_blocks"] = [{"type": "thinking", "thinking": "h", "signature": "s"}]
    body, losses = told("claude-sonnet-4-5", messages=messages, reasoning_effort="low")
    assert ("enabled", ()) == (body["thinking"]["type"], losses)


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("thinking", True, "thinking"),
        ("thinking", "adaptive", "thinking"),
        ("output_config", ["effort"], "output_config"),
        ("reasoning_effort", "enormous", "reasoning_effort"),
    ],
)
def test_a_field_of_another_kind_is_refused(field: str, value: Any, param: str) -> None:
    """By its name, and not by a crash."""
    with pytest.raises(InvalidRequestError) as caught:
        told("claude-opus-5", **{field: value})
    assert param == caught.value.param


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, {"type": "any"}),
        ("auto", {"type": "any"}),
        ("required", {"type": "any"}),
        ("none", {"type": "tool", "name": "json_response"}),
        ({"type": "function", "function": {"name": "look"}}, {"type": "tool", "name": "look"}),
    ],
)
def test_case_68_a_forced_format_keeps_to_the_clients_choice(choice: Any, expected: Any) -> None:
    """With ``none`` only the format may be called; a call that is asked for by name comes first."""
    body, _ = told(
        "claude-3-7-sonnet-latest",
        tools=[{"type": "function", "function": {"name": "look"}}],
        tool_choice=choice,
        response_format={"type": "json_schema", "json_schema": {"name": "A", "schema": {}}},
    )
    assert expected == body["tool_choice"]


def test_case_68_a_format_is_not_forced_while_thinking_is_on() -> None:
    """The two do not go together; it is asked for all the same, one call at a time."""
    body, losses = told(
        "claude-3-7-sonnet-latest",
        tools=[{"type": "function", "function": {"name": "look"}}],
        parallel_tool_calls=False,
        reasoning_effort="low",
        response_format={"type": "json_schema", "json_schema": {"name": "A", "schema": {}}},
    )
    assert {"type": "auto", "disable_parallel_tool_use": True} == body["tool_choice"]
    assert ("response_format.json_schema",) == losses
