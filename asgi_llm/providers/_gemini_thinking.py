"""How much Gemini thinks: a level for the models since Gemini 3, a budget of tokens before.

Source: Gemini API, "Thinking"; November 2026.
"""

from __future__ import annotations

from typing import Any, Final

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._conversation import ChatRequest
from asgi_llm.providers._gemini_models import ModelTraits
from asgi_llm.types import Document

__all__ = ["thinking_config"]

_BUDGETS: Final = {
    "none": 0,
    "minimal": 512,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 32_768,
}
_LEVELS: Final = ("minimal", "low", "medium", "high")
_NEAREST: Final = {"none": "minimal", "xhigh": "high", "max": "high"}


def thinking_config(request: ChatRequest, traits: ModelTraits, own: Any) -> Document | None:
    """The ``thinkingConfig`` of a request; None: the model decides.

    Args:
        request: What is asked.
        traits: The model's.
        own: The client's ``thinking_config``, which wins.

    Raises:
        InvalidRequestError: The effort is none that is known.
    """
    effort = request.take("reasoning_effort")
    if own is not None:
        if effort is not None:
            request.losses.add("reasoning_effort", "thinking_config says more")
        told: Document = own
        return told
    if effort is None:
        return None
    if effort not in _BUDGETS:
        raise InvalidRequestError(
            f"reasoning_effort: got {effort!r}, expected one of " + ", ".join(_BUDGETS),
            param="reasoning_effort",
            code="invalid_value",
        )
    if traits.thinking == "none":
        if effort != "none":
            request.losses.add("reasoning_effort", "the model does not think")
        return None
    told = _budget(request, traits, effort)
    if effort != "none":
        told["includeThoughts"] = True
    return told


def _budget(request: ChatRequest, traits: ModelTraits, effort: str) -> Document:
    if traits.thinking == "budget":
        least, most = traits.budgets
        wanted = _BUDGETS[effort]
        if wanted == 0 and traits.can_rest:
            return {"thinkingBudget": 0}
        if wanted == 0:
            request.losses.add("reasoning_effort", f"it becomes a budget of {least} tokens")
        return {"thinkingBudget": min(max(wanted, least), most)}
    level = _NEAREST.get(effort, effort)
    if level not in traits.levels:
        above = [one for one in _LEVELS[_LEVELS.index(level) :] if one in traits.levels]
        level = above[0] if above else traits.levels[-1]
    if level != effort:
        request.losses.add("reasoning_effort", f"it becomes {level}")
    return {"thinkingLevel": level}
