"""Answers of Gemini's generateContent, whole and streamed, read by the same functions.

Each event of a stream is an answer of its own, with what is new since the last.

Source: Gemini API reference, "GenerateContentResponse"; November 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from asgi_llm.errors import ProviderError, ProviderUnavailableError
from asgi_llm.providers._chat_answer import AnswerWriter, FinishReason
from asgi_llm.providers._gemini_request import Memo
from asgi_llm.types import Document, Usage

__all__ = ["ResponseReader"]

_FINISH: Final[dict[str, FinishReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
_PLAIN: Final = frozenset(("STOP", "MAX_TOKENS"))
_NUMBERED: Final = (
    "FINISH_REASON_UNSPECIFIED",
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "OTHER",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MALFORMED_FUNCTION_CALL",
)
_FAILED: Final = frozenset(("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"))


class _Call(msgspec.Struct, gc=False):
    name: str
    id: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"{}")


class _Blob(msgspec.Struct, gc=False, rename="camel"):
    mime_type: str = ""
    data: str = ""


class _Part(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: _Call | None = None
    inline_data: _Blob | None = None
    executable_code: Any = None
    code_execution_result: Any = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Token(msgspec.Struct, gc=False, rename="camel"):
    token: str = ""
    log_probability: float = 0.0


class _Tops(msgspec.Struct, gc=False):
    candidates: list[_Token] = []


class _Logprobs(msgspec.Struct, gc=False, rename="camel"):
    chosen_candidates: list[_Token] = []
    top_candidates: list[_Tops] = []


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    index: int = 0
    content: _Content | None = None
    finish_reason: str | int | None = None
    finish_message: str | None = None
    grounding_metadata: Any = None
    url_context_metadata: Any = None
    logprobs_result: _Logprobs | None = None


class _Modality(msgspec.Struct, gc=False, rename="camel"):
    modality: str = ""
    token_count: int = 0


class _Usage(msgspec.Struct, gc=False, rename="camel"):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[_Modality] | None = None
    candidates_tokens_details: list[_Modality] | None = None


class _Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class _Response(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: _Usage | None = None
    prompt_feedback: _Feedback | None = None
    response_id: str | None = None
    model_version: str | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Response).decode


class ResponseReader:
    """Reads one answer's events, of which a whole answer is one. See ``AnswerReader``.

    Args:
        memo: Of the request.
        error_of: Makes the error of an error object.
    """

    ends_with_body = True

    __slots__ = ("_error_of", "_memo", "_texts", "over")

    def __init__(self, memo: Memo, error_of: Callable[[Any], ProviderError]) -> None:
        self._memo = memo
        self._error_of = error_of
        self._texts: dict[int, list[str]] = {}
        self.over = False

    def read(self, kind: str, data: bytes, writer: AnswerWriter) -> None:
        """See ``AnswerReader.read``."""
        response = _decode(data)
        if response.error:
            raise self._error_of({"error": response.error})
        if response.response_id or response.model_version:
            writer.begin(id=response.response_id, model=response.model_version)
        if response.usage_metadata is not None:
            writer.usage = _buckets(response.usage_metadata)
        for candidate in response.candidates or ():
            self._candidate(candidate, writer)
        feedback = response.prompt_feedback
        if not response.candidates and feedback is not None and feedback.block_reason:
            writer.text("")
            writer.finish("content_filter", native=feedback.block_reason)

    def _candidate(self, candidate: _Candidate, writer: AnswerWriter) -> None:
        choice = candidate.index
        if candidate.content is not None:
            for part in candidate.content.parts or ():
                self._part(part, choice, writer)
        if candidate.logprobs_result is not None:
            writer.logprobs(_logprobs(candidate.logprobs_result), choice=choice)
        if candidate.grounding_metadata:
            self._ground(candidate.grounding_metadata, choice, writer)
        if candidate.url_context_metadata:
            found = {"url_context_metadata": candidate.url_context_metadata}
            writer.message_fields(found, choice=choice)
        reason = candidate.finish_reason
        if isinstance(reason, int):
            # Some of Google's endpoints number their words.
            reason = _NUMBERED[reason] if 0 <= reason < len(_NUMBERED) else f"REASON_{reason}"
        if reason is None or reason == "FINISH_REASON_UNSPECIFIED":
            return
        if reason in _FAILED:
            raise ProviderUnavailableError(
                "The model made a tool call that cannot be read.", code=reason.lower()
            )
        native = None if reason in _PLAIN else reason
        writer.finish(_FINISH.get(reason, "stop"), native=native, choice=choice)

    def _part(self, part: _Part, choice: int, writer: AnswerWriter) -> None:
        if part.text is not None:
            if part.thought:
                writer.reasoning(part.text, choice=choice)
            elif part.text:
                self._texts.setdefault(choice, []).append(part.text)
                writer.text(part.text, choice=choice)
        elif (call := part.function_call) is not None:
            extra: Document | None = None
            if part.thought_signature is not None:
                extra = {"google": {"thought_signature": part.thought_signature}}
            arguments = bytes(call.args).decode()
            writer.tool_call(
                self._memo.names.here(call.name),
                id=call.id,
                arguments="{}" if arguments in ("", "null") else arguments,
                extra=extra,
                choice=choice,
            )
        elif (blob := part.inline_data) is not None:
            url = f"data:{blob.mime_type};base64,{blob.data}"
            if blob.mime_type.startswith("image/"):
                shown = {"images": [{"type": "image_url", "image_url": {"url": url}}]}
            else:
                shown = {"provider_blocks": [{"inlineData": msgspec.to_builtins(blob)}]}
            writer.message_fields(shown, choice=choice)
        elif part.executable_code is not None:
            block = {"executableCode": part.executable_code}
            writer.message_fields({"provider_blocks": [block]}, choice=choice)
        elif part.code_execution_result is not None:
            block = {"codeExecutionResult": part.code_execution_result}
            writer.message_fields({"provider_blocks": [block]}, choice=choice)

    def _ground(self, metadata: Any, choice: int, writer: AnswerWriter) -> None:
        """Sources: as annotations where they have an address, and all of it beside them."""
        fields: Document = {"grounding_metadata": metadata}
        if isinstance(metadata, dict):
            text = "".join(self._texts.get(choice, ())).encode()
            annotations = list(_annotations(metadata, text))
            if annotations:
                fields["annotations"] = annotations
        writer.message_fields(fields, choice=choice)


def _annotations(metadata: Document, text: bytes) -> list[Document]:
    chunks = [one.get("web") or {} for one in metadata.get("groundingChunks") or ()]
    found: list[Document] = []
    for support in metadata.get("groundingSupports") or ():
        segment = support.get("segment") or {}
        # Google counts bytes, OpenAI characters.
        start = len(text[: segment.get("startIndex") or 0].decode("utf-8", "ignore"))
        end = len(text[: segment.get("endIndex") or 0].decode("utf-8", "ignore"))
        for index in support.get("groundingChunkIndices") or ():
            if 0 <= index < len(chunks) and chunks[index].get("uri"):
                found.append(
                    {
                        "type": "url_citation",
                        "url_citation": {
                            "url": chunks[index]["uri"],
                            "title": chunks[index].get("title") or "",
                            "start_index": start,
                            "end_index": end,
                        },
                    }
                )
    return found


def _logprobs(result: _Logprobs) -> list[Document]:
    tops = result.top_candidates
    return [
        {
            **_token(chosen),
            "top_logprobs": [_token(one) for one in tops[index].candidates]
            if index < len(tops)
            else [],
        }
        for index, chosen in enumerate(result.chosen_candidates)
    ]


def _token(token: _Token) -> Document:
    return {
        "token": token.token,
        "logprob": token.log_probability,
        "bytes": list(token.token.encode()),
    }


def _buckets(usage: _Usage) -> Usage:
    """Disjoint buckets: Gemini's prompt holds what was cached, its candidates hold no thoughts."""
    prompt = max(0, usage.prompt_token_count or 0)
    audio_in = min(prompt, _audio(usage.prompt_tokens_details))
    cached = min(prompt - audio_in, max(0, usage.cached_content_token_count or 0))
    made = max(0, usage.candidates_token_count or 0)
    audio_out = min(made, _audio(usage.candidates_tokens_details))
    tools = max(0, usage.tool_use_prompt_token_count or 0)
    return Usage(
        input_uncached=prompt - cached - audio_in + tools,
        input_cached=cached,
        audio_in=audio_in,
        output_text=made - audio_out,
        reasoning=max(0, usage.thoughts_token_count or 0),
        audio_out=audio_out,
        estimated=usage.prompt_token_count is None,
    )


def _audio(details: list[_Modality] | None) -> int:
    return sum(max(0, one.token_count) for one in details or () if one.modality == "AUDIO")
