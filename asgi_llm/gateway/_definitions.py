"""What a configuration file may hold.

One set of definitions validates a file, is printed by ``asgi-llm schema``, and says what each key
means.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from asgi_llm.providers.azure import AzureAPI
from asgi_llm.providers.capabilities import PROVIDER_TYPES
from asgi_llm.providers.compatible import COMPATIBLE

__all__ = [
    "LAYERS",
    "OPENAI_URL",
    "PLANNED_LAYERS",
    "PROVIDERS",
    "AccessLogDefinition",
    "AnthropicDefinition",
    "AzureDefinition",
    "BedrockDefinition",
    "CORSDefinition",
    "CohereDefinition",
    "CompatibleDefinition",
    "Configuration",
    "EchoDefinition",
    "FetchImagesDefinition",
    "GeminiDefinition",
    "JinaDefinition",
    "KeyedDefinition",
    "LayerDefinition",
    "LiteLLMDefinition",
    "ModelDefinition",
    "NativeDefinition",
    "OllamaDefinition",
    "OpenAIDefinition",
    "OpenAIFormatDefinition",
    "ProviderDefinition",
    "RemoteDefinition",
    "Secret",
    "ServerDefinition",
    "TargetDefinition",
    "TimeoutsDefinition",
    "VertexDefinition",
    "VoyageDefinition",
]


OPENAI_URL = "https://api.openai.com/v1"


class Secret:
    """A value that is shown nowhere by itself; only ``reveal`` gives it out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError("a Secret cannot be pickled")


Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Url = Annotated[
    str,
    Meta(
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        extra={"is": "an http:// or https:// URL without user, query or fragment"},
    ),
]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[^\s/\x00-\x1f\x7f][^\s\x00-\x1f\x7f]{0,255}$",
        extra={"is": "a name of 1 to 256 characters without spaces"},
    ),
]
Text = Annotated[str, Meta(min_length=1, max_length=1024)]
Megabytes = 1024 * 1024


class _Definition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields left out have their defaults; unknown ones are refused."""


class TimeoutsDefinition(_Definition, frozen=True, kw_only=True):
    """Deadlines of a call to a provider; null is none, left out is the next outer one."""

    connect_seconds: Annotated[
        Seconds | UnsetType | None,
        Meta(description="From asking for a connection to having one (10)."),
    ] = UNSET
    first_byte_seconds: Annotated[
        Seconds | UnsetType | None,
        Meta(description="From the request sent to the answer's status line (300)."),
    ] = UNSET
    idle_seconds: Annotated[
        Seconds | UnsetType | None,
        Meta(description="Between two pieces of the answer (120)."),
    ] = UNSET
    total_seconds: Annotated[
        Seconds | UnsetType | None,
        Meta(description="From the call to the end of the answer (1800)."),
    ] = UNSET


class FetchImagesDefinition(_Definition, frozen=True, kw_only=True):
    """Images and documents by URL, for providers that cannot fetch them themselves."""

    enabled: Annotated[
        bool,
        Meta(description="Whether they are fetched; a URL is refused otherwise."),
    ] = False
    max_bytes: Annotated[
        int, Meta(ge=1, le=1024 * Megabytes, description="Cap on one of them.")
    ] = 10 * Megabytes
    max_total_bytes: Annotated[
        int, Meta(ge=1, le=1024 * Megabytes, description="Cap on all of one request together.")
    ] = 20 * Megabytes
    max_images: Annotated[
        int, Meta(ge=1, le=10_000, description="Cap on their number in one request.")
    ] = 20
    max_at_once: Annotated[
        int, Meta(ge=1, le=1000, description="How many of one request are fetched together.")
    ] = 4
    timeout_seconds: Annotated[Seconds, Meta(description="For all of one request.")] = 10.0
    media_types: Annotated[
        tuple[
            Literal["image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"], ...
        ],
        Meta(min_length=1, description="Those that are taken."),
    ] = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")
    allow_http: Annotated[
        bool, Meta(description="Whether http URLs are taken too, which anyone on the way can read.")
    ] = False
    allowed_ports: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=65535)], ...],
        Meta(min_length=1, description="Those that a URL may name."),
    ] = (80, 443)


class ServerDefinition(_Definition, frozen=True, kw_only=True):
    """Where ``asgi-llm serve`` listens, and its limits."""

    host: Annotated[
        Text,
        Meta(description="Address or host name to listen on."),
    ] = "127.0.0.1"
    port: Annotated[Port, Meta(description="TCP port; 0 takes a free one.")] = 4000
    workers: Annotated[int, Meta(ge=1, le=512, description="Processes that share the port.")] = 1
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Open connections per process; a further one is answered 503 and closed.",
        ),
    ] = 2000
    max_body_bytes: Annotated[
        int, Meta(ge=1, le=1024 * Megabytes, description="Cap on a request's body.")
    ] = 32 * Megabytes
    body_timeout_seconds: Annotated[
        Seconds, Meta(description="For the whole body of a request to arrive.")
    ] = 60.0
    header_timeout_seconds: Annotated[
        Seconds,
        Meta(description="For the head of a request to arrive, from the connection's opening on."),
    ] = 10.0
    write_timeout_seconds: Annotated[
        Seconds,
        Meta(description="For a client that does not read to read on, before it is cut off."),
    ] = 60.0
    keep_alive_seconds: Annotated[
        int, Meta(ge=0, le=86_400, description="For an idle connection to be used again.")
    ] = 75
    graceful_shutdown_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="For requests under way to end after SIGTERM, before they are ended.",
        ),
    ] = 30.0
    trusted_proxies: Annotated[
        tuple[Text, ...],
        Meta(
            description="Addresses or networks whose X-Forwarded-For and -Proto are believed; "
            "left out, nobody's are."
        ),
    ] = ()
    log_format: Annotated[
        Literal["console", "json"],
        Meta(description="How log lines look; json is one object a line."),
    ] = "console"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least that is logged."),
    ] = "info"
    docs: Annotated[bool, Meta(description="Whether /docs and /openapi.json are served.")] = True
    timeouts: Annotated[
        TimeoutsDefinition, Meta(description="Deadlines of calls to all providers.")
    ] = field(default_factory=TimeoutsDefinition)
    fetch_images: Annotated[
        FetchImagesDefinition,
        Meta(description="Images by URL, for providers that cannot fetch them themselves."),
    ] = field(default_factory=FetchImagesDefinition)


class ProviderDefinition(_Definition, frozen=True, kw_only=True):
    """An account at a provider: where it is and how it is called."""

    type: str


ApiKey = Annotated[
    Secret | None,
    Meta(
        description="The key. Left out without a base_url, it is taken from the variable that "
        "the provider's own tools use."
    ),
]


class RemoteDefinition(ProviderDefinition, frozen=True, kw_only=True):
    """An account that is called over the network."""

    headers: Annotated[
        dict[str, Secret], Meta(description="More headers for each call; never shown.")
    ] = field(default_factory=dict)
    timeouts: Annotated[
        TimeoutsDefinition, Meta(description="Deadlines of calls to this provider.")
    ] = field(default_factory=TimeoutsDefinition)
    proxy: Annotated[
        Secret | None,
        Meta(description="URL of a proxy that calls go through: http, https or socks5."),
    ] = None
    ca_file: Annotated[
        Text | None,
        Meta(description="PEM file of authorities to trust instead of the system's."),
    ] = None


class OpenAIFormatDefinition(RemoteDefinition, frozen=True, kw_only=True):
    """An account whose wire format is OpenAI's."""

    api_key: ApiKey = None
    quirks: Annotated[
        tuple[Text, ...],
        Meta(description="Named departures of this endpoint from OpenAI's format."),
    ] = ()


class OpenAIDefinition(OpenAIFormatDefinition, frozen=True, kw_only=True):
    """OpenAI, or with a base_url any endpoint that speaks its format."""

    type: Literal["openai"]
    base_url: Annotated[
        Url | None, Meta(description="Up to and with /v1; OpenAI's own when left out.")
    ] = None
    models: Annotated[
        tuple[Text, ...],
        Meta(description="Models known without asking, found by their bare name too."),
    ] = ()
    organization: Annotated[Text | None, Meta(description="OpenAI-Organization header.")] = None
    project: Annotated[Text | None, Meta(description="OpenAI-Project header.")] = None


class AzureDefinition(OpenAIFormatDefinition, frozen=True, kw_only=True):
    """A resource of Azure OpenAI or Azure AI Foundry."""

    type: Literal["azure"]
    endpoint: Annotated[
        Url,
        Meta(description="https://NAME.openai.azure.com"),
    ]
    api_version: Annotated[
        Text | None, Meta(description="Such as 2024-10-21; needed unless api is v1.")
    ] = None
    api: Annotated[
        AzureAPI,
        Meta(
            description="Form of the URLs: the deployment in the path, the v1 API, or model "
            "inference."
        ),
    ] = "deployments"
    deployments: Annotated[
        dict[Text, Text] | None,
        Meta(description="Model name to deployment name; left out, they are the same."),
    ] = None
    models: Annotated[
        tuple[Text, ...],
        Meta(description="Further models known without asking, found by their bare name too."),
    ] = ()


class CompatibleDefinition(OpenAIFormatDefinition, frozen=True, kw_only=True):
    """An OpenAI-compatible endpoint that is known by name."""

    type: str
    base_url: Annotated[
        Url | None, Meta(description="Up to and with /v1; the endpoint's own when left out.")
    ] = None
    models: Annotated[
        tuple[Text, ...],
        Meta(description="Models known without asking, found by their bare name too."),
    ] = ()


class NativeDefinition(RemoteDefinition, frozen=True, kw_only=True):
    """An account whose wire format is not OpenAI's: requests and answers are translated."""

    type: str
    base_url: Annotated[
        Url | None,
        Meta(description="Where its API is, in place of the provider's own address."),
    ] = None
    models: Annotated[
        tuple[Text, ...],
        Meta(description="Models known without asking, found by their bare name too."),
    ] = ()
    strict: Annotated[
        bool,
        Meta(description="Refuse what the translation would lose, in place of reporting it."),
    ] = False


class KeyedDefinition(NativeDefinition, frozen=True, kw_only=True):
    """One that takes a key."""

    type: str
    api_key: ApiKey = None


class AnthropicDefinition(KeyedDefinition, frozen=True, kw_only=True):
    """Claude, at Anthropic or any endpoint that speaks its Messages API."""

    type: Literal["anthropic"]
    betas: Annotated[
        tuple[Text, ...],
        Meta(description="Sent as anthropic-beta; what clients send under it is not passed on."),
    ] = ()
    default_max_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=10_000_000)] | None,
        Meta(description="Cap on an answer whose client sets none."),
    ] = None
    structured_output: Annotated[
        Literal["auto", "native", "tool"],
        Meta(description="How a JSON Schema is asked for: natively, or by a forced tool."),
    ] = "auto"


Schemas = Annotated[
    Literal["auto", "json", "subset"],
    Meta(
        description="How JSON Schemas are told: as they are, in the subset that older models know, "
        "or as the model's name says."
    ),
]


class GeminiDefinition(KeyedDefinition, frozen=True, kw_only=True):
    """Gemini, by the API of Google AI Studio."""

    type: Literal["gemini"]
    schemas: Schemas = "auto"


class VertexDefinition(NativeDefinition, frozen=True, kw_only=True):
    """Gemini on Vertex AI, with Google's credentials; needs the extra vertex."""

    type: Literal["vertex"]
    project: Annotated[
        Text | None,
        Meta(description="Google Cloud project; left out, the service account's own."),
    ] = None
    location: Annotated[Text | None, Meta(description="Region, or global.")] = None
    service_account_file: Annotated[
        Text | None,
        Meta(description="Key file of a service account, in place of the default credentials."),
    ] = None
    api_key: Annotated[
        Secret | None,
        Meta(description="Of express mode, which has neither project nor location."),
    ] = None
    schemas: Schemas = "auto"


class BedrockDefinition(KeyedDefinition, frozen=True, kw_only=True):
    """Models on Amazon Bedrock, by its Converse API; needs the extra bedrock."""

    type: Literal["bedrock"]
    region: Annotated[Text | None, Meta(description="AWS region, such as us-east-1.")] = None
    access_key_id: Annotated[Secret | None, Meta(description="AWS access key.")] = None
    secret_access_key: Annotated[Secret | None, Meta(description="Its secret.")] = None
    session_token: Annotated[
        Secret | None, Meta(description="Its session, for temporary credentials.")
    ] = None
    profile: Annotated[
        Text | None, Meta(description="Profile of AWS's own files to take credentials from.")
    ] = None


class CohereDefinition(KeyedDefinition, frozen=True, kw_only=True):
    """Cohere's v2 API."""

    type: Literal["cohere"]
    input_type: Annotated[
        Text | None,
        Meta(description="What texts to embed are, where a request does not say it."),
    ] = None


class VoyageDefinition(KeyedDefinition, frozen=True, kw_only=True):
    """Voyage AI: embeddings and reranking."""

    type: Literal["voyage"]
    input_type: Annotated[
        Literal["query", "document"] | None,
        Meta(description="What texts are, where a request does not say it."),
    ] = None


class JinaDefinition(KeyedDefinition, frozen=True, kw_only=True):
    """Jina AI: embeddings and reranking."""

    type: Literal["jina"]
    task: Annotated[
        Text | None,
        Meta(description="What vectors are for, where a request does not say it."),
    ] = None


class OllamaDefinition(KeyedDefinition, frozen=True, kw_only=True):
    """An Ollama server, or Ollama's cloud, by the native API."""

    type: Literal["ollama"]
    options: Annotated[
        dict[Text, Any],
        Meta(description="Native options such as num_ctx, unless the request says otherwise."),
    ] = field(default_factory=dict)
    keep_alive: Annotated[
        Text | None, Meta(description="How long a model stays loaded, such as 10m.")
    ] = None
    quirks: Annotated[
        tuple[Text, ...],
        Meta(description="Named departures of this endpoint: think_tags, or nothing."),
    ] = ()


class LiteLLMDefinition(ProviderDefinition, frozen=True, kw_only=True):
    """Any model that litellm knows; needs the extra litellm."""

    type: Literal["litellm"]
    models: Annotated[
        tuple[Text, ...],
        Meta(description="litellm's names of the models that may be asked, or anthropic/*."),
    ] = ()
    options: Annotated[
        dict[Text, Secret],
        Meta(description="Arguments of litellm's calls, such as api_key; never shown."),
    ] = field(default_factory=dict)
    strict: Annotated[
        bool, Meta(description="Refuse what would not reach litellm, in place of reporting it.")
    ] = False
    timeouts: Annotated[
        TimeoutsDefinition, Meta(description="Deadlines of calls to this provider.")
    ] = field(default_factory=TimeoutsDefinition)


class EchoDefinition(ProviderDefinition, frozen=True, kw_only=True):
    """Answers offline with what it was asked: for examples and tests."""

    type: Literal["echo"]
    chunk_delay_seconds: Annotated[
        float, Meta(ge=0, le=3600, description="Wait before each event of a stream.")
    ] = 0.0


_WITH_OPTIONS: dict[str, type[ProviderDefinition]] = {
    "openai": OpenAIDefinition,
    "azure": AzureDefinition,
    "echo": EchoDefinition,
    "anthropic": AnthropicDefinition,
    "gemini": GeminiDefinition,
    "vertex": VertexDefinition,
    "bedrock": BedrockDefinition,
    "cohere": CohereDefinition,
    "voyage": VoyageDefinition,
    "jina": JinaDefinition,
    "ollama": OllamaDefinition,
    "litellm": LiteLLMDefinition,
}

PROVIDERS: dict[str, type[ProviderDefinition]] = _WITH_OPTIONS | {
    name: CompatibleDefinition if name in COMPATIBLE else KeyedDefinition
    for name in PROVIDER_TYPES
    if name not in _WITH_OPTIONS
}
"""The definition of each provider type; those with no options of their own share one."""


class TargetDefinition(_Definition, frozen=True, kw_only=True):
    """One place where an alias can be served."""

    provider: Annotated[Text, Meta(description="A key of providers.")]
    model: Annotated[Text, Meta(description="The model's name there.")]
    weight: Annotated[float, Meta(gt=0, le=1_000_000, description="Share of the requests.")] = 1.0
    quirks: Annotated[
        tuple[Text, ...],
        Meta(description="Named departures of this model, on top of the provider's."),
    ] = ()
    strict: Annotated[
        bool,
        Meta(description="Refuse what a translation would lose, in place of reporting it."),
    ] = False


class ModelDefinition(_Definition, frozen=True, kw_only=True):
    """An alias: a name for clients to use, and what stands behind it."""

    targets: Annotated[
        tuple[TargetDefinition, ...],
        Meta(min_length=1, description="Where it is served; this version uses the first."),
    ]
    strategy: Annotated[
        Text | None, Meta(description="How a target is chosen; not used by this version.")
    ] = None
    fallbacks: Annotated[
        tuple[Text, ...],
        Meta(description="Aliases to try when no target answers; not used by this version."),
    ] = ()


class LayerDefinition(_Definition, frozen=True, kw_only=True):
    """A layer of the stack."""


class AccessLogDefinition(LayerDefinition, frozen=True, kw_only=True):
    """One structured line a request, never with prompt text."""


class CORSDefinition(LayerDefinition, frozen=True, kw_only=True):
    """Lets pages of other origins call the gateway from a browser."""

    allow_origins: Annotated[
        tuple[Text, ...],
        Meta(description='Origins such as https://app.example.com; "*" is any.'),
    ] = ()
    allow_origin_regex: Annotated[
        Text | None, Meta(description="Matched against a whole origin.")
    ] = None
    allow_methods: Annotated[
        tuple[Text, ...] | None, Meta(description="GET, HEAD and POST when left out.")
    ] = None
    allow_headers: Annotated[
        tuple[Text, ...] | None,
        Meta(description="Request headers; those that the official clients send when left out."),
    ] = None
    expose_headers: Annotated[
        tuple[Text, ...] | None,
        Meta(description="Response headers; those that the gateway sends when left out."),
    ] = None
    allow_credentials: Annotated[bool, Meta(description="Whether a page may send cookies.")] = False
    max_age_seconds: Annotated[
        int, Meta(ge=0, le=86_400, description="How long a browser keeps the permission.")
    ] = 600


LAYERS: dict[str, type[LayerDefinition]] = {
    "access_log": AccessLogDefinition,
    "cors": CORSDefinition,
}
"""The definition of each layer that this version has."""

PLANNED_LAYERS = frozenset(
    (
        "telemetry",
        "auth",
        "rate_limit",
        "cost",
        "guardrails",
        "prompt",
        "exact_cache",
        "semantic_cache",
        "router",
    )
)
"""Layers that a file may name one day, so that naming one now gets a plain answer."""


class Configuration(_Definition, frozen=True, kw_only=True):
    """A whole file."""

    server: Annotated[
        ServerDefinition, Meta(description="Where `asgi-llm serve` listens, and its limits.")
    ] = field(default_factory=ServerDefinition)
    providers: Annotated[
        dict[Name, ProviderDefinition], Meta(description="Accounts at providers, by a name.")
    ] = field(default_factory=dict)
    models: Annotated[
        dict[Name, ModelDefinition],
        Meta(description="Aliases; provider/model works as a name without one."),
    ] = field(default_factory=dict)
    stack: Annotated[
        tuple[LayerDefinition, ...],
        Meta(description="Layers, outermost first; left out, it is the access log alone."),
    ] = (AccessLogDefinition(),)
