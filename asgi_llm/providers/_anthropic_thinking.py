"""How much Claude thinks: an effort for the models that decide by themselves, else a budget.

Source: Anthropic, "Adaptive thinking", "Extended thinking", "Effort"; November 2026.
"""

from __future__ import annotations

from typing import Any, Final

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._anthropic_content import is_signed
from asgi_llm.providers._anthropic_models import ModelTraits
from asgi_llm.providers._conversation import ChatRequest, RedactedThinking, Thinking, ToolResult
from asgi_llm.types import Document

__all__ = ["THINKING_FIELDS", "tell_thinking", "thinks"]

THINKING_FIELDS: Final = frozenset(("thinking", "reasoning_effort", "output_config"))
"""What of a request ``tell_thinking`` reads."""

_SMALLEST_BUDGET: Final = 1024
_BUDGETS: Final = {
    "minimal": _SMALLEST_BUDGET,
    "low": 2048,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 32_000,
    "max": 32_000,
}
_EFFORTS: Final = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


def thinks(body: Document) -> bool:
    """Whether the model is asked to think."""
    return body.get("thinking", {}).get("type") not in (None, "disabled", "between_tools")


def tell_thinking(
    request: ChatRequest,
    body: Document,
    config: Document,
    traits: ModelTraits,
    *,
    has_cap: bool,
) -> None:
    """How much the model thinks, and what of the request does not go with that.

    Args:
        request: What is asked.
        body: Where it is told; all but the format of the answer is there already.
        config: Its ``output_config``.
        traits: The model's.
        has_cap: The client set a cap on the answer.

    Raises:
        InvalidRequestError: It is told in a way that nobody knows.
    """
    config |= _object(request, "output_config") or {}
    given = _object(request, "thinking")
    effort = request.take("reasoning_effort")
    if given is not None:
        body["thinking"] = given
        if effort is not None:
            request.losses.add("reasoning_effort", "thinking says more")
    elif effort == "none":
        if traits.thinks:
            body["thinking"] = {"type": "disabled"}
    elif effort is not None:
        _think(request, body, config, traits, effort, has_cap=has_cap)
    if not thinks(body):
        return
    if body.get("temperature", 1) != 1:
        del body["temperature"]
        request.losses.add("temperature", "it is 1 while thinking is on")
    if body.get("top_p", 1) < 0.95:
        del body["top_p"]
        request.losses.add("top_p", "it is at least 0.95 while thinking is on")
    if body.pop("top_k", None) is not None:
        request.losses.add("top_k", "not while thinking is on")
    if _forces_call(body) and body["thinking"]["type"] != "adaptive":
        # Who decides by itself whether to think can be told to call.
        body["tool_choice"] = {**body["tool_choice"], "type": "auto"}
        body["tool_choice"].pop("name", None)
        request.losses.add("tool_choice", "no call is forced together with a thinking budget")


def _forces_call(body: Document) -> bool:
    return body.get("tool_choice", {}).get("type") in ("any", "tool")


def _think(
    request: ChatRequest,
    body: Document,
    config: Document,
    traits: ModelTraits,
    effort: str,
    *,
    has_cap: bool,
) -> None:
    if effort not in _BUDGETS:
        raise InvalidRequestError(
            f"reasoning_effort: got {effort!r}, expected one of none, " + ", ".join(_BUDGETS),
            param="reasoning_effort",
            code="invalid_value",
        )
    if not traits.thinks:
        request.losses.add("reasoning_effort", "the model does not think")
    elif traits.thinks_adaptively:
        body["thinking"] = {"type": "adaptive"}
        told = _EFFORTS[effort]
        if told == "xhigh" and not traits.has_xhigh:
            told = "high"
        if config.setdefault("effort", told) != told:
            request.losses.add("reasoning_effort", "output_config says more")
    elif _is_amid_calls(request):
        request.losses.add("reasoning_effort", "thoughts before the last calls were not sent back")
    else:
        _budget(request, body, traits, _BUDGETS[effort], has_cap=has_cap)


def _budget(
    request: ChatRequest, body: Document, traits: ModelTraits, budget: int, *, has_cap: bool
) -> None:
    """Let the model think so much, and more than that in all: the answer comes on top."""
    cap: int = body["max_tokens"]
    if cap <= budget:
        most = max(cap, min(cap + budget, traits.most_tokens))
        budget = max(_SMALLEST_BUDGET, min(budget, max(most - cap, most // 2)))
        if most > cap:
            body["max_tokens"] = most
            if has_cap:
                request.losses.add("max_tokens", "raised by what is thought")
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _is_amid_calls(request: ChatRequest) -> bool:
    """Whether the answer goes on from tool results whose calls came without signed thoughts.

    The models that think by a budget refuse to think there.
    """
    turns = request.turns
    if len(turns) < 2 or not any(isinstance(part, ToolResult) for part in turns[-1].parts):
        return False
    before = turns[-2].parts
    return not any(
        isinstance(part, Thinking | RedactedThinking) and is_signed(part) for part in before
    )


def _object(request: ChatRequest, name: str) -> dict[str, Any] | None:
    """A field of Anthropic's own, which nobody has checked."""
    value = request.take(name)
    if value is None or isinstance(value, dict):
        return value
    raise InvalidRequestError(f"{name}: expected an object", param=name, code="invalid_type")
