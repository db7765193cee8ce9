"""How Bedrock's models are asked to answer: lengths, sampling, thinking, and what only some know.

Source: Amazon Bedrock API reference, "InferenceConfiguration" and "Converse"; Bedrock User Guide,
"Extended thinking", "Adaptive thinking"; Amazon Nova 2 User Guide, "Extended thinking"; November
2026.
"""

from __future__ import annotations

from typing import Any, Final

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._anthropic_models import ModelTraits
from asgi_llm.providers._anthropic_request import tell_sampling
from asgi_llm.providers._anthropic_thinking import THINKING_FIELDS, tell_thinking, thinks
from asgi_llm.providers._bedrock_models import BedrockTraits
from asgi_llm.providers._conversation import ChatRequest
from asgi_llm.types import Document

__all__ = ["OPTION_FIELDS", "tell_options"]

_ADDITIONAL: Final = ("additionalModelRequestFields", "additional_model_request_fields")
_PASSED_ON: Final = ("reasoningConfig", "reasoning_config")
"""Fields of single models' own, put among the additional ones as they are."""

OPTION_FIELDS: Final = frozenset(
    (
        *_ADDITIONAL,
        *_PASSED_ON,
        "max_completion_tokens",
        "max_tokens",
        "outputConfig",
        "output_config",
        "reasoning_effort",
        "stop",
        "temperature",
        "thinking",
        "top_k",
        "top_p",
    )
)
"""What of a request ``tell_options`` reads."""

_THINKING: Final = frozenset(("thinking",))
_NOVA_EFFORTS: Final = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}


def tell_options(request: ChatRequest, body: Document, traits: BedrockTraits) -> bool:
    """Put them into ``body``, whose tools are there already; whether Claude is asked to think.

    Raises:
        InvalidRequestError: One of them is malformed.
    """
    own = _own_object(request, "outputConfig")
    if own:
        body["outputConfig"] = dict(own)
    given = _own_object(request, *_ADDITIONAL) or {}
    config: Document = {}
    additional: Document = {}
    for name in _PASSED_ON:
        if (value := request.take(name)) is not None:
            additional[name] = value
    does_think = False
    if traits.claude is not None:
        does_think = _tell_claude(request, body, config, additional, traits.claude)
    else:
        _tell_others(request, config, additional, traits)
    # What the client wrote for the model itself says more than what follows from other fields.
    additional.update(given)
    if config:
        body["inferenceConfig"] = config
    if additional:
        body["additionalModelRequestFields"] = additional
    return does_think


def _tell_claude(
    request: ChatRequest,
    body: Document,
    config: Document,
    additional: Document,
    traits: ModelTraits,
) -> bool:
    """What is told to Claude, by the rules of its own API."""
    cap = request.max_tokens()
    stop = request.stop()
    told = [sequence for sequence in stop if not sequence.isspace()]
    if len(told) < len(stop):
        request.losses.add("stop", "sequences of spaces alone are left out")
    draft: Document = {"max_tokens": cap or traits.default_max_tokens}
    if (top_k := request.take("top_k")) is not None:
        draft["top_k"] = top_k
    tell_sampling(request, draft, traits)
    tool_config = body.get("toolConfig", {})
    for kind in tool_config.get("toolChoice", ()):
        draft["tool_choice"] = {"type": kind}
    gives_thinking = request.has_any(_THINKING)
    output: Document = {}
    if request.has_any(THINKING_FIELDS):
        tell_thinking(request, draft, output, traits, has_cap=cap is not None)
    if draft.get("tool_choice", {}).get("type") == "auto":
        del tool_config["toolChoice"]
    thinking = draft.get("thinking")
    if cap is not None or (
        thinking is not None and not gives_thinking and "budget_tokens" in thinking
    ):
        config["maxTokens"] = draft["max_tokens"]
    for name, there in (("temperature", "temperature"), ("top_p", "topP")):
        if name in draft:
            config[there] = draft[name]
    if told:
        config["stopSequences"] = told
    if thinking is not None:
        additional["thinking"] = thinking
    if output:
        additional["output_config"] = output
    if "top_k" in draft:
        additional["top_k"] = draft["top_k"]
    return thinks(draft)


def _tell_others(
    request: ChatRequest, config: Document, additional: Document, traits: BedrockTraits
) -> None:
    if (cap := request.max_tokens()) is not None:
        config["maxTokens"] = cap
    temperature, top_p = request.take("temperature"), request.take("top_p")
    if temperature is not None:
        if temperature > 1:
            request.losses.add("temperature", "it is cut to 1")
            temperature = 1
        config["temperature"] = temperature
    if top_p is not None:
        config["topP"] = top_p
    if stop := request.stop():
        config["stopSequences"] = stop
    if (top_k := request.take("top_k")) is not None:
        if traits.is_nova:
            additional["inferenceConfig"] = {"topK": top_k}
        else:
            additional["top_k"] = top_k
    for name in ("thinking", "output_config"):
        if (value := request.take(name)) is not None:
            additional[name] = value
    effort = request.take("reasoning_effort")
    if effort is None:
        return
    if not traits.is_nova:
        additional["reasoning_effort"] = effort
    elif effort == "none":
        additional["reasoningConfig"] = {"type": "disabled"}
    elif effort not in _NOVA_EFFORTS:
        raise InvalidRequestError(
            f"reasoning_effort: got {effort!r}, expected one of none, " + ", ".join(_NOVA_EFFORTS),
            param="reasoning_effort",
            code="invalid_value",
        )
    else:
        told = _NOVA_EFFORTS[effort]
        if told != effort:
            request.losses.add("reasoning_effort", f"it becomes {told!r}")
        reasoning = {"type": "enabled", "maxReasoningEffort": told}
        additional.setdefault("reasoningConfig", reasoning)
        if told == "high":
            for name, there in (
                ("max_tokens", "maxTokens"),
                ("temperature", "temperature"),
                ("top_p", "topP"),
            ):
                if config.pop(there, None) is not None:
                    request.losses.add(name, "not while Nova thinks its hardest")


def _own_object(request: ChatRequest, *names: str) -> dict[str, Any] | None:
    """A field of Bedrock's own under the first of its names, which nobody has checked.

    Raises:
        InvalidRequestError: It is no object.
    """
    found: dict[str, Any] | None = None
    for name in names:
        value = request.take(name)
        if value is None:
            continue
        if not isinstance(value, dict):
            raise InvalidRequestError(
                f"{name}: expected an object", param=name, code="invalid_type"
            )
        found = value if found is None else found
    return found
