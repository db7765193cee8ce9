"""What each provider type can be asked for: one row each, read by all who need to know.

``/v1/models`` and ``asgi-llm models --capabilities`` show it, the overview of the provider
reference is made from it, and ``lacks`` says what a request needs that a provider has not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from asgi_llm._semconv import Operation
from asgi_llm.providers.compatible import COMPATIBLE, Endpoint
from asgi_llm.types import Document

__all__ = ["PROVIDER_TYPES", "Capabilities", "Embeddings", "ProviderType", "lacking", "lacks"]

Support = bool | None
"""True; False; or None: passed on as it is written, and up to the endpoint and the model."""

ToolChoice = Literal["auto", "none", "required", "named"]
TOOL_CHOICES: Final[tuple[ToolChoice, ...]] = ("auto", "none", "required", "named")


@dataclass(frozen=True, kw_only=True, slots=True)
class Embeddings:
    """How vectors can be asked for."""

    dimensions: Support = None
    """Whether their length can be chosen."""
    batch_limit: int | None = None
    """Texts in one call, above which a request is split into several; None: it never is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a provider's API has and its adapter carries. A model may have less."""

    operations: frozenset[Operation]
    streaming: bool = True
    tools: Support = None
    parallel_tools: Support = None
    """Several calls in one answer."""
    tool_choice: tuple[ToolChoice, ...] | None = None
    image_data: Support = None
    """Images as ``data:`` URLs."""
    image_urls: Support = None
    """Images as ``https:`` URLs, which the provider fetches."""
    documents: Support = None
    audio_in: Support = None
    audio_out: Support = None
    structured_output: Literal["native", "emulated", "none"] | None = None
    """``response_format`` with a JSON Schema; emulated is by a tool call that is turned back."""
    thinking: Support = None
    """Reasoning can be asked for, and comes back."""
    logprobs: Support = None
    choices: Literal["native", "fan_out", "none"] | None = None
    """``n`` above 1; fan_out asks as many times."""
    seed: Support = None
    embeddings: Embeddings | None = None

    def document(self) -> Document:
        """As JSON; null is "passed on as it is written". What is about chats is for chats only."""
        fields = asdict(self)
        common = {"operations": sorted(self.operations), "embeddings": fields["embeddings"]}
        return {**fields, **common} if "chat" in self.operations else common


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderType:
    """One value of a configuration's ``type``."""

    title: str
    adapter: str
    """Where its adapter is, as ``module:name``; imported when it is configured."""
    capabilities: Capabilities
    key_variables: tuple[str, ...] = ()
    """Environment variables that its own tools take the key from; the first that is set counts."""
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The same for further options."""
    needs: tuple[str, ...] = ()
    """Those among them that it cannot do without."""
    needs_key: bool = True
    requires: str | None = None
    """A package that it needs, and which comes with the extra of the type's name."""
    source: str
    """What the row rests on."""


def _compatible(endpoint: Endpoint) -> ProviderType:
    """What follows from the format: everything passes, and what becomes of it is not known here."""
    embeds = "embeddings" in endpoint.operations
    return ProviderType(
        title=endpoint.title,
        adapter="asgi_llm.providers.compatible:compatible",
        capabilities=Capabilities(
            operations=endpoint.operations,
            embeddings=Embeddings() if embeds else None,
            **_KNOWN.get(endpoint.provider_name, {}),
        ),
        key_variables=(endpoint.key_variable,) if endpoint.key_variable else (),
        needs_key=endpoint.key_variable is not None,
        source="the row in asgi_llm.providers.compatible",
    )


# By gen_ai.provider.name; only what the endpoint's own reference rules out.
_KNOWN: Final[Mapping[str, Mapping[str, Any]]] = {
    # API reference: contents are texts.
    "deepseek": {
        "image_data": False,
        "image_urls": False,
        "documents": False,
        "audio_in": False,
        "audio_out": False,
    },
    # "OpenAI compatibility": logprobs and n above 1 are a 400.
    "groq": {"logprobs": False, "choices": "none"},
}

_OPENAI_OPERATIONS: Final[frozenset[Operation]] = frozenset(
    (
        "chat",
        "text_completion",
        "embeddings",
        "moderation",
        "image_generation",
        "speech",
        "transcription",
    )
)

_GEMINI: Final = Capabilities(
    operations=frozenset(("chat", "embeddings")),
    tools=True,
    parallel_tools=True,
    tool_choice=TOOL_CHOICES,
    image_data=True,
    image_urls=True,
    documents=True,
    audio_in=True,
    audio_out=False,
    structured_output="native",
    thinking=True,
    logprobs=True,
    choices="native",
    seed=True,
    embeddings=Embeddings(dimensions=True, batch_limit=100),
)

_NOT_COMPATIBLE: Final[Mapping[str, ProviderType]] = {
    "openai": ProviderType(
        title="OpenAI, or one endpoint that speaks its format",
        adapter="asgi_llm.providers.openai:OpenAI",
        capabilities=Capabilities(
            operations=_OPENAI_OPERATIONS,
            tools=True,
            parallel_tools=True,
            tool_choice=TOOL_CHOICES,
            image_data=True,
            image_urls=True,
            documents=True,
            audio_in=True,
            audio_out=True,
            structured_output="native",
            thinking=True,
            logprobs=True,
            choices="native",
            seed=True,
            embeddings=Embeddings(dimensions=True),
        ),
        key_variables=("OPENAI_API_KEY",),
        source="OpenAI API reference, 2026",
    ),
    "azure": ProviderType(
        title="Azure OpenAI and Azure AI Foundry",
        adapter="asgi_llm.providers.azure:Azure",
        capabilities=Capabilities(
            operations=_OPENAI_OPERATIONS,
            tools=True,
            parallel_tools=True,
            tool_choice=TOOL_CHOICES,
            image_data=True,
            image_urls=True,
            structured_output="native",
            thinking=True,
            logprobs=True,
            choices="native",
            seed=True,
            embeddings=Embeddings(dimensions=True),
        ),
        key_variables=("AZURE_OPENAI_API_KEY",),
        source="Azure OpenAI REST API reference, 2026; which models have audio differs by region",
    ),
    "anthropic": ProviderType(
        title="Anthropic, Messages API",
        adapter="asgi_llm.providers.anthropic:Anthropic",
        capabilities=Capabilities(
            operations=frozenset(("chat",)),
            tools=True,
            parallel_tools=True,
            tool_choice=TOOL_CHOICES,
            image_data=True,
            image_urls=True,
            documents=True,
            audio_in=False,
            audio_out=False,
            structured_output="native",
            thinking=True,
            logprobs=False,
            choices="fan_out",
            seed=False,
        ),
        key_variables=("ANTHROPIC_API_KEY",),
        source="Anthropic API reference, November 2026",
    ),
    "gemini": ProviderType(
        title="Gemini API (Google AI Studio)",
        adapter="asgi_llm.providers.gemini:Gemini",
        capabilities=_GEMINI,
        key_variables=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        source="Gemini API reference, 2026",
    ),
    "vertex": ProviderType(
        title="Gemini on Vertex AI",
        adapter="asgi_llm.providers.vertex:Vertex",
        # One, for its newer models.
        capabilities=replace(_GEMINI, embeddings=Embeddings(dimensions=True, batch_limit=250)),
        variables={
            "project": ("GOOGLE_CLOUD_PROJECT",),
            "location": ("GOOGLE_CLOUD_LOCATION",),
        },
        needs=("project",),
        needs_key=False,
        requires="google.auth",
        source="Vertex AI REST reference, 2026",
    ),
    "bedrock": ProviderType(
        title="Amazon Bedrock, Converse API",
        adapter="asgi_llm.providers.bedrock:Bedrock",
        capabilities=Capabilities(
            operations=frozenset(("chat", "embeddings")),
            tools=True,
            parallel_tools=True,
            tool_choice=TOOL_CHOICES,
            image_data=True,
            image_urls=False,
            documents=True,
            audio_in=True,
            audio_out=False,
            structured_output="native",
            thinking=True,
            logprobs=False,
            choices="fan_out",
            seed=False,
            embeddings=Embeddings(dimensions=True, batch_limit=1),
        ),
        key_variables=("AWS_BEARER_TOKEN_BEDROCK",),
        variables={"region": ("AWS_REGION", "AWS_DEFAULT_REGION")},
        needs=("region",),
        needs_key=False,
        # The extra is for signatures; an API key needs none.
        source="Amazon Bedrock API reference, 2026",
    ),
    "mistral": ProviderType(
        title="Mistral AI",
        adapter="asgi_llm.providers.mistral:Mistral",
        capabilities=Capabilities(
            operations=frozenset(("chat", "embeddings", "transcription")),
            tools=True,
            parallel_tools=True,
            tool_choice=TOOL_CHOICES,
            image_data=True,
            image_urls=True,
            documents=True,
            audio_in=True,
            audio_out=False,
            structured_output="native",
            thinking=True,
            logprobs=True,
            choices="native",
            seed=True,
            embeddings=Embeddings(dimensions=True, batch_limit=512),
        ),
        key_variables=("MISTRAL_API_KEY",),
        source="Mistral AI API reference, 2026",
    ),
    "cohere": ProviderType(
        title="Cohere, v2 API",
        adapter="asgi_llm.providers.cohere:Cohere",
        capabilities=Capabilities(
            operations=frozenset(("chat", "embeddings", "rerank")),
            tools=True,
            parallel_tools=True,
            tool_choice=TOOL_CHOICES,
            image_data=True,
            image_urls=True,
            documents=False,
            audio_in=False,
            audio_out=False,
            structured_output="native",
            thinking=True,
            logprobs=True,
            choices="fan_out",
            seed=True,
            embeddings=Embeddings(dimensions=True, batch_limit=96),
        ),
        key_variables=("CO_API_KEY", "COHERE_API_KEY"),
        source="Cohere API reference v2, 2026",
    ),
    "voyage": ProviderType(
        title="Voyage AI",
        adapter="asgi_llm.providers.voyage:Voyage",
        capabilities=Capabilities(
            operations=frozenset(("embeddings", "rerank")),
            streaming=False,
            embeddings=Embeddings(dimensions=True, batch_limit=1000),
        ),
        key_variables=("VOYAGE_API_KEY",),
        source="Voyage AI API reference, 2026",
    ),
    "jina": ProviderType(
        title="Jina AI",
        adapter="asgi_llm.providers.jina:Jina",
        capabilities=Capabilities(
            operations=frozenset(("embeddings", "rerank")),
            streaming=False,
            embeddings=Embeddings(dimensions=True, batch_limit=512),
        ),
        key_variables=("JINA_API_KEY",),
        source="Jina AI API reference, 2026",
    ),
    "ollama": ProviderType(
        title="Ollama, native API",
        adapter="asgi_llm.providers.ollama:Ollama",
        capabilities=Capabilities(
            operations=frozenset(("chat", "embeddings")),
            tools=True,
            parallel_tools=True,
            tool_choice=("auto", "none"),
            image_data=True,
            image_urls=False,
            documents=False,
            audio_in=False,
            audio_out=False,
            structured_output="native",
            thinking=True,
            logprobs=True,
            choices="fan_out",
            seed=True,
            embeddings=Embeddings(dimensions=True),
        ),
        key_variables=("OLLAMA_API_KEY",),
        needs_key=False,
        source="Ollama API reference, 2026",
    ),
    "litellm": ProviderType(
        title="litellm, for any model that it knows",
        adapter="asgi_llm.providers.litellm:LiteLLM",
        capabilities=Capabilities(
            operations=frozenset(
                ("chat", "embeddings", "moderation", "image_generation", "rerank")
            ),
            image_urls=False,
            embeddings=Embeddings(),
        ),
        needs_key=False,
        requires="litellm",
        source="what passes is up to litellm and the provider behind it",
    ),
    "local_embeddings": ProviderType(
        title="embeddings by a model of this process",
        adapter="asgi_llm.providers.local_embeddings:local_embeddings",
        capabilities=Capabilities(
            operations=frozenset(("embeddings",)), streaming=False, embeddings=Embeddings()
        ),
        needs_key=False,
        source="asgi_llm.providers.local_embeddings; dimensions are up to the model",
    ),
    "echo": ProviderType(
        title="offline and deterministic",
        adapter="asgi_llm.providers.echo:Echo",
        capabilities=Capabilities(
            operations=_OPENAI_OPERATIONS,
            tools=True,
            parallel_tools=True,
            tool_choice=TOOL_CHOICES,
            image_data=True,
            image_urls=True,
            documents=True,
            audio_in=True,
            audio_out=False,
            structured_output="native",
            thinking=False,
            logprobs=True,
            choices="native",
            seed=True,
            embeddings=Embeddings(dimensions=True),
        ),
        needs_key=False,
        source="asgi_llm.providers.echo",
    ),
}

PROVIDER_TYPES: Final[Mapping[str, ProviderType]] = {
    **{name: _compatible(endpoint) for name, endpoint in COMPATIBLE.items()},
    **_NOT_COMPATIBLE,
}
"""Every type that a configuration can name, to its row."""


def lacks(
    type_name: str, operation: Operation, document: Document, *, fetch_images: bool = False
) -> str | None:
    """What a request needs and the provider has not, in words; None: nothing that is known.

    Args:
        type_name: A key of ``PROVIDER_TYPES``.
        operation: What is asked for.
        document: The request, valid for ``operation``.
        fetch_images: Images are fetched here for providers that cannot do so.
    """
    known = PROVIDER_TYPES[type_name].capabilities
    return lacking(known, operation, document, fetch_images=fetch_images)


def lacking(
    known: Capabilities, operation: Operation, document: Document, *, fetch_images: bool = False
) -> str | None:
    """``lacks`` for what has these capabilities."""
    if operation not in known.operations:
        return operation.replace("_", " ")
    if operation == "embeddings":
        vectors = known.embeddings
        wants_length = document.get("dimensions") is not None
        return "dimensions" if wants_length and vectors and vectors.dimensions is False else None
    if operation != "chat":
        return None
    needs = _needs_of_chat(document)
    return next(
        (
            what
            for what, field in needs
            if getattr(known, field) in (False, "none")
            and not (fetch_images and field == "image_urls")
        ),
        _lacking_choice(known, document),
    )


def _needs_of_chat(document: Document) -> Iterator[tuple[str, str]]:
    """What a chat asks for, in words, and the field of ``Capabilities`` that is about it."""
    if document.get("stream"):
        yield "streams", "streaming"
    if document.get("tools") or document.get("functions"):
        yield "tools", "tools"
    if (document.get("n") or 1) > 1:
        yield "several choices", "choices"
    if document.get("logprobs"):
        yield "log probabilities", "logprobs"
    if document.get("seed") is not None:
        yield "a seed", "seed"
    if (document.get("response_format") or {}).get("type") == "json_schema":
        yield "structured output", "structured_output"
    if document.get("reasoning_effort") not in (None, "none"):
        yield "thinking", "thinking"
    if document.get("audio") or "audio" in (document.get("modalities") or ()):
        yield "audio output", "audio_out"
    for message in document["messages"]:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            match part["type"]:
                case "image_url":
                    url = part["image_url"]
                    url = url["url"] if isinstance(url, dict) else url
                    if url[:5].lower() == "data:":
                        yield "images", "image_data"
                    else:
                        yield "images by URL", "image_urls"
                case "file":
                    yield "documents", "documents"
                case "input_audio":
                    yield "audio input", "audio_in"


def _lacking_choice(known: Capabilities, document: Document) -> str | None:
    choice = document.get("tool_choice")
    if choice is None or known.tool_choice is None:
        return None
    mode = choice if isinstance(choice, str) else "named"
    return None if mode in known.tool_choice else f"tool_choice {mode}"
