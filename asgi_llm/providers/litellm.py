"""Any model that litellm knows, for the long tail of providers; the extra ``litellm``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from asgi_llm import _json
from asgi_llm._semconv import Operation
from asgi_llm.errors import ConfigurationError, InvalidRequestError, ModelNotFoundError
from asgi_llm.providers._litellm_transport import LiteLLMTransport, import_litellm
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._passthrough import OpenAIFormat
from asgi_llm.providers.base import Translation
from asgi_llm.transports.base import Timeouts, UpstreamRequest
from asgi_llm.types import Deployment, Document

__all__ = ["LiteLLM"]

_CHAT: Final = (
    "messages",
    "stream",
    "stream_options",
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
)

FIELDS: Final[Mapping[Operation, frozenset[str]]] = {
    "chat": frozenset(_CHAT),
    "embeddings": frozenset(("input", "dimensions", "encoding_format", "input_type", "user")),
    "moderation": frozenset(("input",)),
    "image_generation": frozenset(
        (
            "prompt",
            "background",
            "moderation",
            "n",
            "output_compression",
            "output_format",
            "quality",
            "response_format",
            "size",
            "style",
            "user",
        )
    ),
    "rerank": frozenset(
        ("query", "documents", "max_chunks_per_doc", "rank_fields", "return_documents", "top_n")
    ),
}
"""What passes of a client's document. Arguments that steer litellm itself (addresses, keys,
headers, callbacks, mocks, fallbacks, metadata ...) are not among them and never reach it."""

_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]*(?:/@?[A-Za-z0-9][A-Za-z0-9._:@+-]*)*")
_ADDRESS: Final = re.compile(r"://|^\s*(?:https?|gs|s3|file|ftp):", re.IGNORECASE)
_PLAIN_PARTS: Final = frozenset(("text", "refusal", "thinking", "redacted_thinking"))
_CREDENTIAL: Final = re.compile(r"key|token|secret|password|credential|headers", re.IGNORECASE)

_RESERVED: Final = frozenset(
    (
        "model",
        "custom_llm_provider",
        "metadata",
        "litellm_metadata",
        "litellm_params",
        "acompletion",
        "num_retries",
        "max_retries",
        "retry_policy",
        "fallbacks",
        "context_window_fallbacks",
        "context_window_fallback_dict",
        "content_policy_fallbacks",
        "model_list",
        "mock_response",
        "mock_tool_calls",
        "mock_timeout",
        "mock_delay",
        "drop_params",
        "additional_drop_params",
        "caching",
        "cache",
        "no-log",
        "callbacks",
        "success_callback",
        "failure_callback",
        "logger_fn",
        "guardrails",
        "timeout",
        "request_timeout",
        "stream_timeout",
        *(name for fields in FIELDS.values() for name in fields),
    )
)
"""Options that would change what was asked, how often, or who hears of it."""


class LiteLLM(OpenAIFormat):
    """Calls through litellm: its translation, behind our errors, usage and streams.

    Credentials come from ``options`` or from the environment variables that litellm itself reads;
    a request can set neither them nor where it is sent.

    Args:
        name: Its name here, the part before the slash in ``provider/model``.
        models: litellm's names of the models that may be asked; ``anthropic/*`` allows all of one
            of its providers. Empty: those in the table that litellm comes with.
        options: Further arguments of litellm's functions, such as ``api_key``, ``api_base`` or
            ``aws_region_name``, for every call.
        strict: Refuse what would not reach litellm, in place of reporting it.
        timeouts: Deadlines of its calls; None takes the app's.

    Raises:
        ConfigurationError: litellm is not installed, an option is one that the provider sets
            itself, or there are credentials without ``models`` that they are for.
    """

    fetches_urls: ClassVar[bool] = False
    """For some providers litellm would fetch them from here, so they are refused."""

    def __init__(
        self,
        *,
        name: str = "litellm",
        models: Iterable[str] = (),
        options: Mapping[str, Any] | None = None,
        strict: bool = False,
        timeouts: Timeouts | None = None,
    ) -> None:
        allowed = tuple(models)
        given = _checked_options(options)
        for model in allowed:
            if not _MODEL.fullmatch(model.removesuffix("/*")) or model == "*":
                raise ConfigurationError(f"{model!r} is no model of litellm's", param="models")
        secrets = list(_secrets(given))
        if secrets and not allowed:
            raise ConfigurationError(
                "options hold credentials, so models must say whom they are for, as in "
                "'anthropic/*': litellm would send them to whichever provider a client names",
                param="models",
            )
        litellm = import_litellm()
        own = LiteLLMTransport(litellm, given, secrets)
        super().__init__(
            name=name,
            provider_name="litellm",
            base_url="http://litellm.invalid",
            models=(model for model in allowed if not model.endswith("/*")),
            operations=tuple(FIELDS),
            transport=own,
            timeouts=timeouts,
            secrets=secrets,
        )
        self.strict = strict
        self._own = own
        self._exact = frozenset(self.models)
        self._prefixes = tuple(model[:-1] for model in allowed if model.endswith("/*"))
        self._known: Mapping[str, Any] = litellm.model_cost

    async def aclose(self) -> None:
        """Close litellm's clients, once no other provider here uses them. Idempotent."""
        await self._own.aclose()

    def url_for(self, operation: Operation, deployment: Deployment) -> str:
        """Which function of litellm's is called."""
        return f"{self.base_url}/{operation}"

    def translate(
        self, operation: Operation, document: Document, deployment: Deployment
    ) -> Translation:
        """The fields of ``document`` that litellm may see."""
        model = deployment.model
        if not self._is_allowed(model):
            raise ModelNotFoundError(f"The provider {self.name!r} has no model {model!r}.")
        if operation not in FIELDS:
            raise InvalidRequestError(
                f"The provider {self.name!r} has no {operation.replace('_', ' ')}.",
                param="model",
                code="unsupported_operation",
            )
        losses = Losses(self.name, strict=self.strict or deployment.strict)
        allowed = FIELDS[operation]
        sent: Document = {"model": model}
        for field, value in document.items():
            if field in allowed:
                sent[field] = value
            elif value is not None and field not in ("model", "asgi_llm"):
                losses.add(field)
        if operation == "chat":
            _check_messages(sent["messages"])
            _check_tools(sent.get("tools") or ())
        url = self.url_for(operation, deployment)
        request = UpstreamRequest("POST", url, self._json_headers, _json.encode(sent))
        return Translation(operation, document, deployment, request, losses=losses.names)

    def build_models_request(self) -> UpstreamRequest | None:
        """None: litellm lists no account's models."""
        return None

    def _is_allowed(self, model: str) -> bool:
        # litellm takes some names as an address, and others become a part of one.
        if not _MODEL.fullmatch(model):
            return False
        if self._exact or self._prefixes:
            return model in self._exact or model.startswith(self._prefixes)
        if model in self._known:
            return True
        provider, _, rest = model.partition("/")
        return bool(self._known.get(rest, {}).get("litellm_provider") == provider)


def _checked_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise ConfigurationError("options must be a mapping with names as keys", param="options")
    if reserved := sorted(options.keys() & _RESERVED):
        raise ConfigurationError(
            f"options must not hold {reserved[0]!r}, which the request or the provider sets",
            param="options",
        )
    return dict(options)


def _secrets(options: Mapping[str, Any], secret: bool = False) -> Iterable[str]:
    """The texts among ``options`` that are credentials by their names."""
    for name, value in options.items():
        found = secret or bool(_CREDENTIAL.search(name))
        if isinstance(value, Mapping):
            yield from _secrets(value, found)
        elif found and isinstance(value, str) and value:
            yield value


def _check_messages(messages: list[Document]) -> None:
    """Refuse addresses: litellm fetches them itself for providers that cannot.

    Raises:
        InvalidRequestError: A part holds one.
    """
    for index, message in enumerate(messages):
        content = message.get("content")
        for at, part in enumerate(content if isinstance(content, list) else ()):
            if part["type"] not in _PLAIN_PARTS and _has_address(part):
                path = f"messages[{index}].content[{at}]"
                raise InvalidRequestError(
                    f"{path}: only data URLs can be carried to this provider, not addresses",
                    param=path,
                    code="unsupported_content_part",
                )


def _has_address(value: Any) -> bool:
    if isinstance(value, str):
        return value[:5].lower() != "data:" and _ADDRESS.search(value) is not None
    if isinstance(value, dict):
        return any(map(_has_address, value.values()))
    return isinstance(value, list) and any(map(_has_address, value))


def _check_tools(tools: Iterable[Document]) -> None:
    """Refuse tools that a server runs, some of which name a server.

    Raises:
        InvalidRequestError: One of them is no function.
    """
    for index, tool in enumerate(tools):
        if tool.get("type", "function") != "function":
            path = f"tools[{index}].type"
            raise InvalidRequestError(
                f"{path}: only functions can be carried to this provider",
                param=path,
                code="unsupported_tool",
            )
