"""Accounts at providers, as a configuration file describes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from asgi_llm.gateway._definition_types import (
    Definition,
    Secret,
    Text,
    TimeoutsDefinition,
    Url,
)
from asgi_llm.providers.azure import AzureAPI
from asgi_llm.providers.capabilities import PROVIDER_TYPES
from asgi_llm.providers.compatible import COMPATIBLE

__all__ = [
    "OPENAI_URL",
    "PROVIDERS",
    "AnthropicDefinition",
    "AzureDefinition",
    "BedrockDefinition",
    "CohereDefinition",
    "CompatibleDefinition",
    "EchoDefinition",
    "GeminiDefinition",
    "JinaDefinition",
    "KeyedDefinition",
    "LiteLLMDefinition",
    "LocalEmbeddingsDefinition",
    "NativeDefinition",
    "OllamaDefinition",
    "OpenAIDefinition",
    "OpenAIFormatDefinition",
    "ProviderDefinition",
    "RemoteDefinition",
    "VertexDefinition",
    "VoyageDefinition",
]

OPENAI_URL = "https://api.openai.com/v1"


class ProviderDefinition(Definition, frozen=True, kw_only=True):
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
    """Models on Amazon Bedrock, by its Converse API; needs the extra bedrock, or an API key."""

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


class LocalEmbeddingsDefinition(ProviderDefinition, frozen=True, kw_only=True):
    """Embeddings by a model of this process; needs the extra onnx, or sentence-transformers."""

    type: Literal["local_embeddings"]
    model: Annotated[
        Text,
        Meta(
            description="Folder that `asgi-llm embedder export` made; for sentence_transformers "
            "any folder of its own, or the name of a model on this machine."
        ),
    ]
    engine: Annotated[
        Literal["onnx", "sentence_transformers"], Meta(description="What runs the model.")
    ] = "onnx"
    models: Annotated[
        tuple[Text, ...],
        Meta(description="Names by which it is asked; left out, the model's own."),
    ] = ()
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=256)] | None,
        Meta(description="For one run of the model; left out, 1 for onnx."),
    ] = None
    truncate: Annotated[
        bool, Meta(description="Cut texts that are too long, in place of refusing them.")
    ] = False
    matryoshka: Annotated[
        bool, Meta(description="The model's vectors may be cut to the dimensions asked for.")
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
    "local_embeddings": LocalEmbeddingsDefinition,
}

PROVIDERS: dict[str, type[ProviderDefinition]] = _WITH_OPTIONS | {
    name: CompatibleDefinition if name in COMPATIBLE else KeyedDefinition
    for name in PROVIDER_TYPES
    if name not in _WITH_OPTIONS
}
"""The definition of each provider type; those with no options of their own share one."""
