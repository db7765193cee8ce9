"""What may be asked for: one definition an operation.

A definition checks; the document that goes on is the client's own, unknown fields included.

Source: OpenAI API reference, November 2026, and the types of its Python SDK 3.52.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from asgi_llm._semconv import Operation
from asgi_llm.wire._fields import (
    Choices,
    Maybe,
    ModelName,
    Penalty,
    Probability,
    Seed,
    Temperature,
    TokenCount,
    missing,
)
from asgi_llm.wire.content import (
    ContentPart,
    FunctionDefinition,
    ImagePart,
    Message,
    TextPart,
    Tool,
    same_kind,
)

__all__ = [
    "REQUESTS",
    "ChatCompletionRequest",
    "CompletionRequest",
    "EmbeddingRequest",
    "ImageRequest",
    "ModerationRequest",
    "RerankRequest",
    "SpeechRequest",
    "TranscriptionRequest",
]

TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Bias = Annotated[float, Meta(ge=-100, le=100)]


class StreamOptions(Struct, gc=False):
    """What a stream holds besides its content."""

    include_usage: Maybe[bool] = UNSET
    include_obfuscation: Maybe[bool] = UNSET


class JSONSchemaFormat(Struct, gc=False):
    """A JSON Schema that the answer follows."""

    name: Maybe[str] = UNSET
    description: Maybe[str] = UNSET
    schema: Maybe[dict[str, Any]] = UNSET
    strict: Maybe[bool] = UNSET


class ResponseFormat(Struct, gc=False):
    """``text``, ``json_object``, ``json_schema``, or a type of the provider's own."""

    type: str
    json_schema: JSONSchemaFormat | UnsetType = UNSET
    schema: Maybe[dict[str, Any]] = UNSET

    def __post_init__(self) -> None:
        if self.type == "json_schema" and self.json_schema is UNSET and self.schema is UNSET:
            raise missing("json_schema")


class Named(Struct, gc=False):
    """A name."""

    name: str


class AllowedTool(Struct, gc=False):
    """A tool that may be called, by its name; types that have none are the provider's own."""

    type: str = "function"
    name: Maybe[str] = UNSET
    function: Named | UnsetType = UNSET
    custom: Named | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.type in ("function", "custom") and (
            not self.name and getattr(self, self.type) is UNSET
        ):
            raise missing(self.type)


class AllowedTools(Struct, gc=False):
    """The only tools that may be called."""

    tools: list[AllowedTool]
    mode: Maybe[str] = UNSET


class ToolChoice(Struct, gc=False):
    """The tool that is to be called, or the set to choose from."""

    type: str = "function"
    function: Named | UnsetType = UNSET
    custom: Named | UnsetType = UNSET
    allowed_tools: AllowedTools | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.type in ("function", "custom", "allowed_tools") and (
            getattr(self, self.type) is UNSET
        ):
            raise missing(self.type)


class VoiceId(Struct, gc=False):
    """A voice of one's own."""

    id: str


class AudioOutput(Struct, gc=False):
    """How the answer is to sound."""

    format: str
    voice: str | VoiceId


class Prediction(Struct, gc=False):
    """Text that the answer will mostly repeat."""

    type: str
    content: str | list[ContentPart]


class ChatCompletionRequest(Struct):
    """Body of ``POST /v1/chat/completions``."""

    model: ModelName
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: Maybe[bool] = UNSET
    stream_options: Maybe[StreamOptions] = UNSET
    temperature: Maybe[Temperature] = UNSET
    top_p: Maybe[Probability] = UNSET
    top_k: Maybe[Annotated[int, Meta(ge=-1, le=2**31 - 1)]] = UNSET
    n: Maybe[Choices] = UNSET
    max_tokens: Maybe[TokenCount] = UNSET
    max_completion_tokens: Maybe[TokenCount] = UNSET
    stop: Maybe[str | list[str]] = UNSET
    presence_penalty: Maybe[Penalty] = UNSET
    frequency_penalty: Maybe[Penalty] = UNSET
    logit_bias: Maybe[dict[str, Bias]] = UNSET
    logprobs: Maybe[bool] = UNSET
    top_logprobs: Maybe[TokenCount] = UNSET
    seed: Maybe[Seed] = UNSET
    tools: Maybe[list[Tool]] = UNSET
    tool_choice: Maybe[str | ToolChoice] = UNSET
    parallel_tool_calls: Maybe[bool] = UNSET
    functions: Maybe[list[FunctionDefinition]] = UNSET
    function_call: Maybe[str | Named] = UNSET
    response_format: Maybe[ResponseFormat] = UNSET
    reasoning_effort: Maybe[str] = UNSET
    verbosity: Maybe[str] = UNSET
    modalities: Maybe[list[str]] = UNSET
    audio: Maybe[AudioOutput] = UNSET
    prediction: Maybe[Prediction] = UNSET
    web_search_options: Maybe[dict[str, Any]] = UNSET
    metadata: Maybe[dict[str, Any]] = UNSET
    service_tier: Maybe[str] = UNSET
    store: Maybe[bool] = UNSET
    user: Maybe[str] = UNSET
    safety_identifier: Maybe[str] = UNSET
    prompt_cache_key: Maybe[str] = UNSET
    prompt_cache_retention: Maybe[str] = UNSET


class CompletionRequest(Struct):
    """Body of ``POST /v1/completions``: text, several texts, or tokens in their place."""

    model: ModelName
    prompt: str | list[str | TokenId | list[TokenId]] | None
    stream: Maybe[bool] = UNSET
    stream_options: Maybe[StreamOptions] = UNSET
    temperature: Maybe[Temperature] = UNSET
    top_p: Maybe[Probability] = UNSET
    n: Maybe[Choices] = UNSET
    best_of: Maybe[Choices] = UNSET
    max_tokens: Maybe[TokenCount] = UNSET
    stop: Maybe[str | list[str]] = UNSET
    presence_penalty: Maybe[Penalty] = UNSET
    frequency_penalty: Maybe[Penalty] = UNSET
    logit_bias: Maybe[dict[str, Bias]] = UNSET
    logprobs: Maybe[TokenCount] = UNSET
    seed: Maybe[Seed] = UNSET
    suffix: Maybe[str] = UNSET
    echo: Maybe[bool] = UNSET
    user: Maybe[str] = UNSET

    def __post_init__(self) -> None:
        same_kind(self.prompt, "prompt")


class EmbeddingRequest(Struct):
    """Body of ``POST /v1/embeddings``: text, several texts, or tokens in their place."""

    model: ModelName
    input: str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1)]
    dimensions: Maybe[Annotated[int, Meta(ge=1, le=2**31 - 1)]] = UNSET
    encoding_format: Maybe[str] = UNSET
    user: Maybe[str] = UNSET

    def __post_init__(self) -> None:
        same_kind(self.input, "input")


class ModerationRequest(Struct):
    """Body of ``POST /v1/moderations``: text, several texts, or a list of parts."""

    input: str | Annotated[list[str | TextPart | ImagePart], Meta(min_length=1)]
    model: ModelName


class ImageRequest(Struct):
    """Body of ``POST /v1/images/generations``."""

    prompt: str
    model: ModelName
    n: Maybe[Choices] = UNSET
    size: Maybe[str] = UNSET
    quality: Maybe[str] = UNSET
    style: Maybe[str] = UNSET
    background: Maybe[str] = UNSET
    moderation: Maybe[str] = UNSET
    response_format: Maybe[str] = UNSET
    output_format: Maybe[str] = UNSET
    output_compression: Maybe[Annotated[int, Meta(ge=0, le=100)]] = UNSET
    partial_images: Maybe[Annotated[int, Meta(ge=0, le=128)]] = UNSET
    stream: Maybe[bool] = UNSET
    user: Maybe[str] = UNSET


class SpeechRequest(Struct):
    """Body of ``POST /v1/audio/speech``."""

    model: ModelName
    input: str
    voice: str | VoiceId
    instructions: Maybe[str] = UNSET
    response_format: Maybe[str] = UNSET
    speed: Maybe[Annotated[float, Meta(ge=0.25, le=4)]] = UNSET
    stream_format: Maybe[str] = UNSET


class TranscriptionRequest(Struct):
    """Form fields of ``POST /v1/audio/transcriptions``, besides the ``file`` itself."""

    model: ModelName
    language: Maybe[str] = UNSET
    prompt: Maybe[str] = UNSET
    response_format: Maybe[str] = UNSET
    temperature: Maybe[Probability] = UNSET
    stream: Maybe[bool] = UNSET
    timestamp_granularities: Maybe[list[str]] = UNSET
    include: Maybe[list[str]] = UNSET
    chunking_strategy: Maybe[str] = UNSET


class RerankDocument(Struct, gc=False):
    """A text to rank; what stands beside it goes along."""

    text: str


class RerankRequest(Struct):
    """Body of ``POST /v1/rerank``.

    Source: Cohere API reference, "Rerank" (v2); Jina and Voyage have the same fields in the main.
    """

    model: ModelName
    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | RerankDocument], Meta(min_length=1)]
    top_n: Maybe[Annotated[int, Meta(ge=1, le=2**31 - 1)]] = UNSET
    return_documents: Maybe[bool] = UNSET
    max_tokens_per_doc: Maybe[TokenCount] = UNSET


REQUESTS: dict[Operation, type[Struct]] = {
    "chat": ChatCompletionRequest,
    "text_completion": CompletionRequest,
    "embeddings": EmbeddingRequest,
    "moderation": ModerationRequest,
    "image_generation": ImageRequest,
    "speech": SpeechRequest,
    "transcription": TranscriptionRequest,
    "rerank": RerankRequest,
}
