"""Answers of Gemini's generateContent, whole and streamed, read by the same functions.

Each event of a stream is an answer of its own, with what is new since the last.

Source: Gemini API reference, "GenerateContentResponse"; November 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from asgi_llm.errors import ProviderError, ProviderUnavailableError
from asgi_llm.providers._chat_answer import AnswerWriter, FinishReason
from asgi_llm.providers._gemini_content import SIGNED_HERE
from asgi_llm.providers._gemini_request import Memo
from asgi_llm.providers._gemini_response import (
    Candidate,
    Part,
    TokenCounts,
    decode_response,
    logprob_rows,
)
from asgi_llm.providers._gemini_sources import citations, grounded
from asgi_llm.types import Document

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
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "IMAGE_OTHER": "content_filter",
}
_PLAIN: Final = frozenset(("STOP", "MAX_TOKENS"))
_NUMBERED: Final = ("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION")
"""Words that both endpoints give the same number, where they were asked for numbers."""

_FAILED: Final = {
    "MALFORMED_FUNCTION_CALL": "The model made a tool call that cannot be read.",
    "MALFORMED_RESPONSE": "The model made an answer that cannot be read.",
    "MISSING_THOUGHT_SIGNATURE": "The conversation lacks a signature that the model needs.",
    "TOO_MANY_TOOL_CALLS": "The model made too many tool calls in a row.",
    "UNEXPECTED_TOOL_CALL": "The model called a tool where none may be called.",
}
_CALLED: Final = frozenset(("TOO_MANY_TOOL_CALLS", "UNEXPECTED_TOOL_CALL"))
"""What is no failure where the call is told: the client can answer that there is no such tool."""


class ResponseReader:
    """Reads one answer's events, of which a whole answer is one. See ``AnswerReader``.

    Args:
        memo: Of the request.
        error_of: Makes the error of an error object.
    """

    ends_with_body = True

    __slots__ = ("_calls", "_error_of", "_id", "_memo", "_texts", "_thoughts", "over")

    def __init__(self, memo: Memo, error_of: Callable[[Any], ProviderError]) -> None:
        self._memo = memo
        self._error_of = error_of
        self._id: str | None = None
        self._texts: dict[int, list[str]] = {}
        self._thoughts: dict[int, list[str]] = {}
        """Those that have not been told as a block yet."""
        self._calls: dict[int, int] = {}
        self.over = False

    def read(self, kind: str, data: bytes, writer: AnswerWriter) -> None:
        """See ``AnswerReader.read``."""
        response = decode_response(data)
        if response.error:
            raise self._error_of({"error": response.error})
        if self._id is None:
            self._id = response.response_id
            writer.begin(id=response.response_id, model=response.model_version)
        if response.usage_metadata is not None:
            self._count(response.usage_metadata, writer)
        for candidate in response.candidates or ():
            self._candidate(candidate, writer)
        feedback = response.prompt_feedback
        if not response.candidates and feedback is not None and feedback.block_reason:
            writer.text("")
            self._explain(feedback.block_reason_message, feedback.safety_ratings, 0, writer)
            writer.finish("content_filter", native=str(feedback.block_reason))

    def _count(self, counts: TokenCounts, writer: AnswerWriter) -> None:
        usage = counts.buckets()
        if usage is not None:
            writer.usage = usage

    def _candidate(self, candidate: Candidate, writer: AnswerWriter) -> None:
        choice = candidate.index
        if candidate.content is not None:
            for part in candidate.content.parts or ():
                if part.text and not part.thought and part.thought_signature is None:
                    self._texts.setdefault(choice, []).append(part.text)
                    writer.text(part.text, choice=choice)
                else:
                    self._part(part, choice, writer)
        if candidate.logprobs_result is not None:
            writer.logprobs(logprob_rows(candidate.logprobs_result), choice=choice)
        if candidate.grounding_metadata or candidate.citation_metadata:
            self._cite(candidate, choice, writer)
        if candidate.url_context_metadata:
            found = {"url_context_metadata": candidate.url_context_metadata}
            writer.message_fields(found, choice=choice)
        if candidate.finish_reason:
            self._finish(candidate, candidate.finish_reason, choice, writer)

    # Parts

    def _part(self, part: Part, choice: int, writer: AnswerWriter) -> None:
        if (call := part.function_call) is not None:
            if call.will_continue or call.partial_args is not None:
                raise ProviderUnavailableError(
                    "The provider sent a tool call in pieces, which it was not asked for.",
                    code="invalid_provider_response",
                )
            made = self._calls.get(choice, 0)
            self._calls[choice] = made + 1
            arguments = bytes(call.args).decode()
            extra: Document | None = None
            if part.thought_signature is not None:
                extra = {"google": {"thought_signature": part.thought_signature}}
            writer.tool_call(
                self._memo.names.here(call.name),
                id=call.id or (f"call_{self._id}_{choice}_{made}" if self._id else None),
                arguments="{}" if arguments in ("", "null") else arguments,
                extra=extra,
                choice=choice,
            )
        elif (own := _own_block(part)) is not None:
            writer.message_fields({"provider_blocks": [own]}, choice=choice)
        else:
            if part.text and part.thought:
                self._thoughts.setdefault(choice, []).append(part.text)
                writer.reasoning(part.text, choice=choice)
            elif part.text:
                self._texts.setdefault(choice, []).append(part.text)
                writer.text(part.text, choice=choice)
            elif (blob := part.inline_data) is not None:
                url = f"data:{blob.mime_type};base64,{blob.data}"
                image = {"type": "image_url", "image_url": {"url": url}}
                writer.message_fields({"images": [image]}, choice=choice)
            if part.thought_signature is not None:
                self._sign(part.thought_signature, choice, writer)

    def _sign(self, signature: str, choice: int, writer: AnswerWriter) -> None:
        """Tell a signature that is on no call, with the thoughts that it is about."""
        thoughts = "".join(self._thoughts.pop(choice, ()))
        block = {"type": "thinking", "thinking": thoughts, "signature": SIGNED_HERE + signature}
        writer.thinking_block(block, choice=choice)

    # The end

    def _cite(self, candidate: Candidate, choice: int, writer: AnswerWriter) -> None:
        """Sources: as annotations where they have an address, and all of it beside them."""
        text = "".join(self._texts.get(choice, ()))
        annotations: list[Document] = []
        fields: Document = {}
        if metadata := candidate.grounding_metadata:
            fields["grounding_metadata"] = metadata
            annotations += grounded(metadata, text)
        if metadata := candidate.citation_metadata:
            fields["citation_metadata"] = metadata
            annotations += citations(metadata, text)
        if annotations:
            fields["annotations"] = annotations
        writer.message_fields(fields, choice=choice)

    def _finish(
        self, candidate: Candidate, reason: str | int, choice: int, writer: AnswerWriter
    ) -> None:
        if isinstance(reason, int):
            known = 0 < reason < len(_NUMBERED)
            reason = _NUMBERED[reason] if known else f"FINISH_REASON_{reason}"
        if reason == "FINISH_REASON_UNSPECIFIED":
            return
        if reason in _FAILED and not (reason in _CALLED and self._calls.get(choice)):
            raise ProviderUnavailableError(_FAILED[reason], code=reason.lower())
        native = None
        if reason not in _PLAIN:
            native = reason
            self._explain(candidate.finish_message, candidate.safety_ratings, choice, writer)
        writer.finish(_FINISH.get(reason, "stop"), native=native, choice=choice)

    def _explain(
        self, message: str | None, ratings: Any, choice: int, writer: AnswerWriter
    ) -> None:
        """Tell why an answer is not what it might be, in Google's own fields."""
        fields: Document = {}
        if message:
            fields["finish_message"] = message
        if ratings:
            fields["safety_ratings"] = ratings
        if fields:
            writer.message_fields(fields, choice=choice)


def _own_block(part: Part) -> Document | None:
    """A part for which chats have no words, as a client can send it back."""
    if part.executable_code is not None:
        block = {"type": "executableCode", "executableCode": part.executable_code}
    elif part.code_execution_result is not None:
        block = {"type": "codeExecutionResult", "codeExecutionResult": part.code_execution_result}
    elif part.tool_call is not None:
        block = {"type": "toolCall", "toolCall": part.tool_call}
    elif part.tool_response is not None:
        block = {"type": "toolResponse", "toolResponse": part.tool_response}
    elif (blob := part.inline_data) is not None and (
        part.thought or not blob.mime_type.startswith("image/")
    ):
        # Sound, or a draft of a picture that is not meant to be seen.
        data = {"mimeType": blob.mime_type, "data": blob.data}
        block = {"type": "inlineData", "inlineData": data}
    else:
        return None
    if part.thought_signature is not None:
        block["thoughtSignature"] = part.thought_signature
    return block
