"""What is answered: the shapes that the OpenAPI description publishes.

Answers pass as the provider sent them, so these describe and do not check. They are as wide as
what compatible servers really send: null where OpenAI leaves a field out, and words (finish
reasons, roles, tiers) as plain strings.

Source: OpenAI API reference, November 2026, and the types of its Python SDK 3.52.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from asgi_llm.wire._fields import Maybe

__all__ = [
    "RESPONSES",
    "ChatCompletion",
    "ChatCompletionChunk",
    "Completion",
    "EmbeddingList",
    "Error",
    "ImageList",
    "Model",
    "ModelList",
    "Moderation",
    "Transcription",
]


class Usage(Struct):
    """Tokens of one answer; input and output include their parts."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: Maybe[int] = UNSET
    prompt_tokens_details: Maybe[UsageInputDetails] = UNSET
    completion_tokens_details: Maybe[UsageOutputDetails] = UNSET


class UsageInputDetails(Struct):
    """Parts of the input."""

    cached_tokens: Maybe[int] = UNSET
    cache_write_tokens: Maybe[int] = UNSET
    audio_tokens: Maybe[int] = UNSET


class UsageOutputDetails(Struct):
    """Parts of the output."""

    reasoning_tokens: Maybe[int] = UNSET
    audio_tokens: Maybe[int] = UNSET
    accepted_prediction_tokens: Maybe[int] = UNSET
    rejected_prediction_tokens: Maybe[int] = UNSET


class TokenLogprob(Struct):
    """How likely a token was, and which others were."""

    token: str
    logprob: float
    bytes: Maybe[list[int]] = UNSET
    top_logprobs: Maybe[list[TokenLogprob]] = UNSET


class Logprobs(Struct):
    """Log probabilities of the tokens of a choice."""

    content: Maybe[list[TokenLogprob]] = UNSET
    refusal: Maybe[list[TokenLogprob]] = UNSET


class CalledFunction(Struct):
    """A function call; in a chunk, a piece of one."""

    name: Maybe[str] = UNSET
    arguments: Maybe[str] = UNSET


class AnswerToolCall(Struct):
    """A tool call; in a chunk, a piece of the one at ``index``."""

    index: Maybe[int] = UNSET
    id: Maybe[str] = UNSET
    type: Maybe[str] = UNSET
    function: Maybe[CalledFunction] = UNSET
    custom: Maybe[dict[str, Any]] = UNSET


class AnswerMessage(Struct):
    """What the model says; in a chunk, a piece of it. Mistral may send the content in parts."""

    role: Maybe[str] = UNSET
    content: Maybe[str | list[dict[str, Any]]] = UNSET
    refusal: Maybe[str] = UNSET
    reasoning_content: Maybe[str] = UNSET
    tool_calls: Maybe[list[AnswerToolCall]] = UNSET
    function_call: Maybe[CalledFunction] = UNSET
    annotations: Maybe[list[dict[str, Any]]] = UNSET
    audio: Maybe[dict[str, Any]] = UNSET


class ChatChoice(Struct):
    """One of the answers asked for with ``n``."""

    index: int
    message: AnswerMessage
    finish_reason: str | None
    logprobs: Maybe[Logprobs] = UNSET


class ChatCompletion(Struct):
    """Answer of ``POST /v1/chat/completions``."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Maybe[Usage] = UNSET
    service_tier: Maybe[str] = UNSET
    system_fingerprint: Maybe[str] = UNSET


class ChunkChoice(Struct):
    """A piece of one of the answers."""

    index: int
    delta: AnswerMessage
    finish_reason: Maybe[str] = UNSET
    logprobs: Maybe[Logprobs] = UNSET


class ChatCompletionChunk(Struct):
    """One event of a streamed chat completion. The one with the usage has no choices."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Maybe[Usage] = UNSET
    service_tier: Maybe[str] = UNSET
    system_fingerprint: Maybe[str] = UNSET


class CompletionLogprobs(Struct):
    """Log probabilities in the older form."""

    tokens: Maybe[list[str]] = UNSET
    token_logprobs: Maybe[list[float | None]] = UNSET
    top_logprobs: Maybe[list[dict[str, float] | None]] = UNSET
    text_offset: Maybe[list[int]] = UNSET


class CompletionChoice(Struct):
    """One of the texts asked for with ``n``; in a stream, a piece of it."""

    index: int
    text: str
    finish_reason: Maybe[str] = UNSET
    logprobs: Maybe[CompletionLogprobs] = UNSET


class Completion(Struct):
    """Answer of ``POST /v1/completions``, and each event of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Maybe[Usage] = UNSET
    system_fingerprint: Maybe[str] = UNSET


class Embedding(Struct):
    """One vector: numbers, or base64 of little-endian 32-bit floats."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"]


class EmbeddingList(Struct):
    """Answer of ``POST /v1/embeddings``, in the order of the input."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Maybe[Usage] = UNSET


class ModerationResult(Struct):
    """The verdict on one input."""

    flagged: bool
    categories: dict[str, bool | None]
    category_scores: dict[str, float | None]
    category_applied_input_types: Maybe[dict[str, list[str] | None]] = UNSET


class Moderation(Struct):
    """Answer of ``POST /v1/moderations``."""

    id: str
    model: str
    results: list[ModerationResult]


class Image(Struct):
    """One image: an address or base64."""

    url: Maybe[str] = UNSET
    b64_json: Maybe[str] = UNSET
    revised_prompt: Maybe[str] = UNSET


class ImageUsage(Struct):
    """Tokens of a set of images."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: Maybe[dict[str, int]] = UNSET
    output_tokens_details: Maybe[dict[str, int]] = UNSET


class ImageList(Struct):
    """Answer of ``POST /v1/images/generations``."""

    created: int
    data: Maybe[list[Image]] = UNSET
    usage: Maybe[ImageUsage] = UNSET


class Transcription(Struct):
    """Answer of ``POST /v1/audio/transcriptions`` in its JSON forms."""

    text: str
    language: Maybe[str] = UNSET
    duration: Maybe[float | str] = UNSET
    segments: Maybe[list[dict[str, Any]]] = UNSET
    words: Maybe[list[dict[str, Any]]] = UNSET
    logprobs: Maybe[list[TokenLogprob]] = UNSET
    usage: Maybe[dict[str, Any]] = UNSET


class RankedDocument(Struct):
    """One of the documents: which it is, and how well it fits the query, from 0 to 1."""

    index: int
    relevance_score: float
    document: Maybe[dict[str, Any]] = UNSET


class RerankUsage(Struct):
    """What a ranking cost: tokens, or the provider's own search units."""

    total_tokens: Maybe[int] = UNSET
    prompt_tokens: Maybe[int] = UNSET
    search_units: Maybe[int] = UNSET


class Ranking(Struct):
    """Answer of ``POST /v1/rerank``, best first."""

    model: str
    results: list[RankedDocument]
    id: Maybe[str] = UNSET
    object: Maybe[str] = UNSET
    usage: Maybe[RerankUsage] = UNSET


class EmbeddingCapabilities(Struct):
    """How vectors can be asked for."""

    dimensions: bool | None
    batch_limit: int | None


class ModelCapabilities(Struct):
    """What a model's provider can be asked for; the model itself may do less.

    Null is "passed on as it is written". What is about chats is left out where there are none.
    """

    operations: list[str]
    embeddings: EmbeddingCapabilities | None
    streaming: bool | UnsetType = UNSET
    tools: Maybe[bool] = UNSET
    parallel_tools: Maybe[bool] = UNSET
    tool_choice: Maybe[list[Literal["auto", "none", "required", "named"]]] = UNSET
    image_data: Maybe[bool] = UNSET
    image_urls: Maybe[bool] = UNSET
    documents: Maybe[bool] = UNSET
    audio_in: Maybe[bool] = UNSET
    audio_out: Maybe[bool] = UNSET
    structured_output: Maybe[Literal["native", "emulated", "none"]] = UNSET
    thinking: Maybe[bool] = UNSET
    logprobs: Maybe[bool] = UNSET
    choices: Maybe[Literal["native", "fan_out", "none"]] = UNSET
    seed: Maybe[bool] = UNSET


class Model(Struct):
    """A model that can be asked for."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    capabilities: ModelCapabilities | UnsetType = UNSET


class ModelList(Struct):
    """Answer of ``GET /v1/models``."""

    object: Literal["list"]
    data: list[Model]


class ErrorDetail(Struct):
    """What went wrong; ``param`` is the path of the field at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(Struct):
    """Answer of any request that fails, and the last event of a stream that does."""

    error: ErrorDetail


RESPONSES: tuple[type[Struct], ...] = (
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    EmbeddingList,
    Moderation,
    ImageList,
    Transcription,
    Ranking,
    Model,
    ModelList,
    Error,
)
