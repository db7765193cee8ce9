"""Endpoints that speak the OpenAI format: one row each, no code.

Thirteen rows are proved by recorded traffic (``tests/providers/replay.py``). The others rest on
public documentation and client code of 2026 and have not been called. Quirks are in ``_quirks``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from asgi_llm._semconv import Operation
from asgi_llm.errors import ConfigurationError, RawHeaders
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.providers._passthrough import PATHS, OpenAIFormat
from asgi_llm.providers._quirks import check_quirks
from asgi_llm.transports.base import Timeouts, Transport
from asgi_llm.types import Deployment

__all__ = ["COMPATIBLE", "Endpoint", "compatible"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """One OpenAI-compatible endpoint."""

    title: str
    base_url: str | None
    """None: it differs from account to account and must be given."""
    provider_name: str
    """OpenTelemetry's ``gen_ai.provider.name`` value."""
    key_variable: str | None
    """The environment variable that its users keep the key in; None: no key is needed."""
    operations: frozenset[Operation]
    quirks: frozenset[str] = frozenset()
    paths: Mapping[Operation, str] = field(default_factory=dict)
    """Paths that differ from OpenAI's."""


def _does(*operations: Operation) -> frozenset[Operation]:
    return frozenset(operations)


_CHAT = _does("chat")
_TEXT = _does("chat", "text_completion")
_TEXT_AND_VECTORS = _does("chat", "text_completion", "embeddings")
_CHAT_AND_VECTORS = _does("chat", "embeddings")

# Hosts of open models: the role "developer" fails in most chat templates, and the documented name
# of the limit is max_tokens.
_OPEN_MODELS = frozenset({"developer_as_system", "max_tokens_only"})
_AS_SYSTEM = frozenset({"developer_as_system"})

COMPATIBLE: Final[Mapping[str, Endpoint]] = {
    "baseten": Endpoint(
        title="Baseten",
        base_url="https://inference.baseten.co/v1",
        provider_name="baseten",
        key_variable="BASETEN_API_KEY",
        operations=_CHAT,
        quirks=_OPEN_MODELS,
    ),
    "cerebras": Endpoint(
        title="Cerebras",
        base_url="https://api.cerebras.ai/v1",
        provider_name="cerebras",
        key_variable="CEREBRAS_API_KEY",
        operations=_TEXT,
    ),
    "cohere_openai": Endpoint(
        title="Cohere, OpenAI compatibility",
        base_url="https://api.cohere.ai/compatibility/v1",
        provider_name="cohere",
        key_variable="COHERE_API_KEY",
        operations=_CHAT_AND_VECTORS,
        quirks=frozenset({"max_tokens_only"}),
    ),
    "dashscope": Endpoint(
        title="Alibaba Cloud Model Studio",
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        provider_name="dashscope",
        key_variable="DASHSCOPE_API_KEY",
        operations=_CHAT_AND_VECTORS,
        quirks=_OPEN_MODELS,
    ),
    "deepinfra": Endpoint(
        title="DeepInfra",
        base_url="https://api.deepinfra.com/v1/openai",
        provider_name="deepinfra",
        key_variable="DEEPINFRA_API_KEY",
        operations=_does("chat", "text_completion", "embeddings", "image_generation"),
        quirks=_OPEN_MODELS,
    ),
    "deepseek": Endpoint(
        title="DeepSeek",
        base_url="https://api.deepseek.com",
        provider_name="deepseek",
        key_variable="DEEPSEEK_API_KEY",
        operations=_CHAT,
        quirks=_OPEN_MODELS | {"text_as_string"},
    ),
    "fireworks": Endpoint(
        title="Fireworks AI",
        base_url="https://api.fireworks.ai/inference/v1",
        provider_name="fireworks_ai",
        key_variable="FIREWORKS_API_KEY",
        operations=_TEXT_AND_VECTORS,
        quirks=_OPEN_MODELS,
    ),
    "friendli": Endpoint(
        title="FriendliAI serverless endpoints",
        base_url="https://api.friendli.ai/serverless/v1",
        provider_name="friendli",
        key_variable="FRIENDLI_TOKEN",
        operations=_TEXT,
        quirks=_OPEN_MODELS,
    ),
    "gemini_openai": Endpoint(
        title="Gemini API, OpenAI compatibility",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        provider_name="gcp.gemini",
        key_variable="GEMINI_API_KEY",
        operations=_does("chat", "embeddings", "image_generation"),
    ),
    "github": Endpoint(
        title="GitHub Models",
        base_url="https://models.github.ai/inference",
        provider_name="github",
        key_variable="GITHUB_TOKEN",
        operations=_CHAT_AND_VECTORS,
    ),
    "groq": Endpoint(
        title="Groq",
        base_url="https://api.groq.com/openai/v1",
        provider_name="groq",
        key_variable="GROQ_API_KEY",
        operations=_does("chat", "speech", "transcription"),
    ),
    "huggingface": Endpoint(
        title="Hugging Face Inference Providers (router)",
        base_url="https://router.huggingface.co/v1",
        provider_name="huggingface",
        key_variable="HF_TOKEN",
        operations=_CHAT,
        quirks=_OPEN_MODELS,
    ),
    "hyperbolic": Endpoint(
        title="Hyperbolic",
        base_url="https://api.hyperbolic.xyz/v1",
        provider_name="hyperbolic",
        key_variable="HYPERBOLIC_API_KEY",
        operations=_TEXT,
        quirks=_OPEN_MODELS,
    ),
    "llama_cpp": Endpoint(
        title="llama.cpp server",
        base_url="http://127.0.0.1:8080/v1",
        provider_name="llama_cpp",
        key_variable=None,
        operations=_TEXT_AND_VECTORS,
        quirks=_OPEN_MODELS,
    ),
    "lm_studio": Endpoint(
        title="LM Studio",
        base_url="http://127.0.0.1:1234/v1",
        provider_name="lm_studio",
        key_variable=None,
        operations=_TEXT_AND_VECTORS,
        quirks=_OPEN_MODELS,
    ),
    "minimax": Endpoint(
        title="MiniMax",
        base_url="https://api.minimax.io/v1",
        provider_name="minimax",
        key_variable="MINIMAX_API_KEY",
        operations=_CHAT,
        quirks=_OPEN_MODELS,
    ),
    "mistral_openai": Endpoint(
        title="Mistral AI, without translation",
        base_url="https://api.mistral.ai/v1",
        provider_name="mistral_ai",
        key_variable="MISTRAL_API_KEY",
        operations=_does("chat", "embeddings", "transcription"),
        # Fields that it does not know are a 422 there, and usage comes unasked.
        quirks=_OPEN_MODELS | {"no_stream_options", "seed_as_random_seed", "short_tool_ids"},
    ),
    "moonshot": Endpoint(
        title="Moonshot AI (Kimi)",
        base_url="https://api.moonshot.ai/v1",
        provider_name="moonshot",
        key_variable="MOONSHOT_API_KEY",
        operations=_CHAT,
        quirks=_OPEN_MODELS,
    ),
    "nebius": Endpoint(
        title="Nebius Token Factory",
        base_url="https://api.tokenfactory.nebius.com/v1",
        provider_name="nebius",
        key_variable="NEBIUS_API_KEY",
        operations=_TEXT_AND_VECTORS | {"image_generation"},
        quirks=_OPEN_MODELS,
    ),
    "novita": Endpoint(
        title="Novita AI",
        base_url="https://api.novita.ai/openai/v1",
        provider_name="novita",
        key_variable="NOVITA_API_KEY",
        operations=_TEXT_AND_VECTORS,
        quirks=_OPEN_MODELS,
    ),
    "nvidia": Endpoint(
        title="NVIDIA NIM, hosted",
        base_url="https://integrate.api.nvidia.com/v1",
        provider_name="nvidia",
        key_variable="NVIDIA_API_KEY",
        operations=_CHAT_AND_VECTORS,
        quirks=_OPEN_MODELS,
    ),
    "ollama_openai": Endpoint(
        title="Ollama, OpenAI compatibility",
        base_url="http://127.0.0.1:11434/v1",
        provider_name="ollama",
        key_variable=None,
        operations=_TEXT_AND_VECTORS,
        quirks=_OPEN_MODELS,
    ),
    "openrouter": Endpoint(
        title="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        provider_name="openrouter",
        key_variable="OPENROUTER_API_KEY",
        operations=_TEXT_AND_VECTORS,
        # Some of the models behind it end a stream with [DONE] and no finish reason.
        quirks=frozenset({"finish_reason_optional"}),
    ),
    "perplexity": Endpoint(
        title="Perplexity",
        base_url="https://api.perplexity.ai",
        provider_name="perplexity",
        key_variable="PERPLEXITY_API_KEY",
        operations=_CHAT,
        quirks=_OPEN_MODELS,
    ),
    "sambanova": Endpoint(
        title="SambaNova Cloud",
        base_url="https://api.sambanova.ai/v1",
        provider_name="sambanova",
        key_variable="SAMBANOVA_API_KEY",
        operations=_does("chat", "embeddings", "transcription"),
        quirks=_OPEN_MODELS,
    ),
    "sglang": Endpoint(
        title="SGLang",
        base_url="http://127.0.0.1:30000/v1",
        provider_name="sglang",
        key_variable=None,
        operations=_TEXT_AND_VECTORS,
        quirks=_AS_SYSTEM,
    ),
    "siliconflow": Endpoint(
        title="SiliconFlow",
        base_url="https://api.siliconflow.com/v1",
        provider_name="siliconflow",
        key_variable="SILICONFLOW_API_KEY",
        operations=_does("chat", "embeddings", "image_generation"),
        quirks=_OPEN_MODELS,
    ),
    "snowflake": Endpoint(
        title="Snowflake Cortex",
        base_url=None,
        provider_name="snowflake",
        key_variable="SNOWFLAKE_TOKEN",
        operations=_CHAT,
    ),
    "together": Endpoint(
        title="Together AI",
        base_url="https://api.together.xyz/v1",
        provider_name="together_ai",
        key_variable="TOGETHER_API_KEY",
        operations=_TEXT_AND_VECTORS | {"image_generation", "speech", "transcription"},
        quirks=_OPEN_MODELS,
    ),
    "vllm": Endpoint(
        title="vLLM",
        base_url="http://127.0.0.1:8000/v1",
        provider_name="vllm",
        key_variable=None,
        operations=_TEXT_AND_VECTORS | {"transcription"},
        quirks=_AS_SYSTEM,
    ),
    "writer": Endpoint(
        title="Writer",
        base_url="https://api.writer.com/v1",
        provider_name="writer",
        key_variable="WRITER_API_KEY",
        # Its completions are of another format.
        operations=_CHAT,
        quirks=_OPEN_MODELS | {"done_optional"},
        paths={"chat": "/chat"},
    ),
    "xai": Endpoint(
        title="xAI",
        base_url="https://api.x.ai/v1",
        provider_name="x_ai",
        key_variable="XAI_API_KEY",
        operations=_does("chat", "image_generation"),
    ),
    "zai": Endpoint(
        title="Z.AI",
        base_url="https://api.z.ai/api/paas/v4",
        provider_name="zai",
        key_variable="ZAI_API_KEY",
        operations=_CHAT,
        quirks=_OPEN_MODELS,
    ),
}
"""Type name, as in a configuration's ``type:``, to its endpoint."""


class _Compatible(OpenAIFormat):
    """An endpoint that may have paths of its own."""

    _paths: Mapping[Operation, str] = PATHS

    def url_for(self, operation: Operation, deployment: Deployment) -> str:
        """Where ``operation`` is called."""
        return self.base_url + self._paths[operation]


def compatible(
    type_name: str,
    *,
    api_key: str | None = None,
    name: str | None = None,
    base_url: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    models: Iterable[str] = (),
    quirks: Iterable[str] = (),
    transport: Transport | None = None,
    timeouts: Timeouts | None = None,
) -> OpenAIFormat:
    """The adapter for an endpoint of the table.

    Args:
        type_name: A key of ``COMPATIBLE``.
        api_key: Sent as a bearer token. May be left out where the endpoint needs none.
        name: Its name here, the part before the slash in ``provider/model``; default: the type.
        base_url: In place of the table's, for a server of one's own.
        headers: Further headers, sent with every call.
        models: Models that it is known to serve, without asking it.
        quirks: In addition to the table's.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.

    Raises:
        ConfigurationError: There is no such type, the key or the base URL is missing, or an option
            is malformed.
    """
    row = COMPATIBLE.get(type_name)
    if row is None:
        near = difflib.get_close_matches(type_name, COMPATIBLE, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(
            f"there is no compatible endpoint {type_name!r}{hint}", param="type_name"
        )
    url = base_url or row.base_url
    if url is None:
        raise ConfigurationError(f"{row.title} needs a base_url", param="base_url")
    if api_key is None and row.key_variable is not None and base_url is None:
        raise ConfigurationError(
            f"{row.title} needs an api_key (usually kept in {row.key_variable})", param="api_key"
        )
    sent: RawHeaders = []
    extra, secrets = header_pairs(headers)
    if api_key is not None:
        sent.append((b"authorization", b"Bearer " + credential(api_key, "api_key")))
        secrets.append(api_key)
    adapter = _Compatible(
        name=name or type_name,
        provider_name=row.provider_name,
        base_url=checked_base_url(url),
        headers=[*sent, *extra],
        models=models,
        operations=row.operations,
        quirks=row.quirks | check_quirks(quirks),
        transport=transport,
        timeouts=timeouts,
        secrets=secrets,
    )
    if row.paths:
        adapter._paths = {**PATHS, **row.paths}
    return adapter
