"""What the OpenAI SDK reads of an answer, in the same terms as what the provider's own reads."""

from __future__ import annotations

import base64
import struct
from typing import Any

import openai

from tests.providers.replay_views.exchanges import Choice, Counts, Operation, Reading, parsed

_TAKEN = {"model", "messages", "stream", "input", "encoding_format"}


async def read_openai(
    client: openai.AsyncOpenAI,
    operation: Operation,
    document: dict[str, Any],
    *,
    model: str,
    stream: bool,
) -> Reading:
    """Send ``document`` and read what comes."""
    extra = {name: value for name, value in document.items() if name not in _TAKEN}
    try:
        if operation == "embeddings":
            return _vectors(
                await client.embeddings.create(
                    model=model,
                    input=document["input"],
                    encoding_format=document.get("encoding_format", openai.omit),
                    extra_body=extra,
                )
            )
        if operation == "rerank":
            answer = await client.post("/rerank", body={**extra, "model": model}, cast_to=object)
            return _ranking(answer)
        if stream:
            return await _streamed(client, document["messages"], model, extra)
        whole = await client.chat.completions.create(
            model=model, messages=document["messages"], extra_body=extra
        )
        return _whole(whole)
    except openai.APIError as error:
        return Reading(error=(type(error).__name__, getattr(error, "status_code", 0)))


def _vectors(answer: Any) -> Reading:
    counts = Counts(input=answer.usage.prompt_tokens)
    vectors = tuple(_vector(row.embedding) for row in answer.data)
    if [row.index for row in answer.data] != list(range(len(vectors))):
        return Reading(counts=counts)
    return Reading(counts=counts, vectors=vectors)


def _vector(value: Any) -> tuple[float, ...]:
    if isinstance(value, str):
        data = base64.b64decode(value)
        return struct.unpack(f"<{len(data) // 4}f", data)
    return tuple(value)


def _ranking(answer: Any) -> Reading:
    usage = answer.get("usage") or {}
    counts = Counts(input=usage["prompt_tokens"]) if "prompt_tokens" in usage else None
    rows = tuple((row["index"], row["relevance_score"]) for row in answer["results"])
    return Reading(counts=counts, ranking=rows)


def _whole(answer: Any) -> Reading:
    choices = []
    for choice in answer.choices:
        message = choice.message
        calls = [
            (call.function.name, parsed(call.function.arguments))
            for call in message.tool_calls or ()
        ]
        choices.append(
            Choice(
                text=(message.content or "") + (message.refusal or ""),
                reasoning=getattr(message, "reasoning_content", None) or "",
                calls=tuple(calls),
                finish=choice.finish_reason,
            )
        )
    return Reading(choices=tuple(choices), counts=_counts(answer.usage))


def _counts(usage: Any) -> Counts | None:
    if usage is None:
        return None
    details = usage.prompt_tokens_details
    return Counts(
        input=usage.prompt_tokens,
        cached=(details.cached_tokens or 0) if details else 0,
        output=usage.completion_tokens,
    )


class _Growing:
    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""
        self.calls: dict[int, list[str]] = {}
        self.finishes: list[str] = []


async def _streamed(
    client: openai.AsyncOpenAI, messages: Any, model: str, extra: dict[str, Any]
) -> Reading:
    growing: dict[int, _Growing] = {}
    usage: Any = None
    chunks = await client.chat.completions.create(
        model=model,
        messages=messages,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=extra,
    )
    async for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            at = growing.setdefault(choice.index, _Growing())
            delta = choice.delta
            at.text += (delta.content or "") + (delta.refusal or "")
            at.reasoning += getattr(delta, "reasoning_content", None) or ""
            for call in delta.tool_calls or ():
                known = at.calls.setdefault(call.index, ["", ""])
                known[0] += (call.function and call.function.name) or ""
                known[1] += (call.function and call.function.arguments) or ""
            if choice.finish_reason:
                at.finishes.append(choice.finish_reason)
    return Reading(
        choices=tuple(
            Choice(
                text=one.text,
                reasoning=one.reasoning,
                calls=tuple((call[0], parsed(call[1])) for _, call in sorted(one.calls.items())),
                finish=" ".join(one.finishes) or None,
            )
            for _, one in sorted(growing.items())
        ),
        counts=_counts(usage),
    )
