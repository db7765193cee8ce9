"""Google's generateContent and its embeddings, at AI Studio and Vertex AI, as a test reads them."""

from __future__ import annotations

import functools
import json
import re
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
from google import genai
from google.genai import types

from asgi_llm.providers.base import Provider
from asgi_llm.providers.gemini import Gemini
from asgi_llm.providers.vertex import Vertex
from tests.providers.replay_views.exchanges import (
    Choice,
    Counts,
    Exchange,
    Reading,
    dump,
    expected_error,
    refuse,
)
from tests.providers.replay_views.google_requests import (
    CallIds,
    embedding_document,
    format_of,
    lowered,
    merged_turns,
    messages_of,
    plain_declaration,
    plain_part,
    put_tools,
    spelled,
)

_STOPS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
}
_SAME = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "maxOutputTokens": "max_tokens",
    "stopSequences": "stop",
    "candidateCount": "n",
    "seed": "seed",
    "thinkingConfig": "thinking_config",
}
_OWN = ("cachedContent", "labels", "modelArmorConfig", "safetySettings")
_NUMBERED = re.compile(rb'"(finishReason|modality|trafficType)": ?(\d)')
_WORDS = {
    b"finishReason": (b"FINISH_REASON_UNSPECIFIED", b"STOP", b"MAX_TOKENS", b"SAFETY"),
    b"modality": (b"MODALITY_UNSPECIFIED", b"TEXT", b"IMAGE", b"VIDEO", b"AUDIO"),
    b"trafficType": (b"TRAFFIC_TYPE_UNSPECIFIED", b"ON_DEMAND", b"PROVISIONED_THROUGHPUT"),
}
"""Words that a caller may ask to have as numbers, which the SDK never does and cannot read."""


class GoogleView:
    """See ``View``."""

    def adapter(self, exchange: Exchange, root: str, name: str) -> Provider:
        if exchange.provider == "gemini":
            return Gemini(api_key="AIza-recorded-0123456", base_url=root + "/v1beta", name=name)
        project, location = _place(exchange)
        return Vertex(
            project=project,
            location=location,
            token_provider=lambda: "ya29.recorded-token",
            base_url=f"{root}/v1",
            name=name,
        )

    def model(self, exchange: Exchange) -> str:
        found = re.search(r"/models/([^:/]+):", unquote(exchange.url))
        return found[1] if found else "gemini-recorded"

    def path(self, exchange: Exchange) -> str:
        path = urlsplit(exchange.url).path
        if exchange.provider == "vertex":
            project, location = _place(exchange)
            path = re.sub(
                r"^/v1(beta1)?/projects/[^/]+/locations/[^/]+/",
                f"/v1/projects/{project}/locations/{location}/",
                unquote(path),
            )
        return path + ("?alt=sse" if path.endswith(":streamGenerateContent") else "")

    # The request in OpenAI's words

    def document(self, exchange: Exchange) -> dict[str, Any]:
        said = spelled(exchange.sent)
        if exchange.operation == "embeddings":
            return embedding_document(said)
        document: dict[str, Any] = {"messages": [], "stream": exchange.stream}
        if system := said.get("systemInstruction"):
            content = [{"type": "text", "text": part["text"]} for part in system["parts"]]
            document["messages"].append({"role": "system", "content": content})
        ids = CallIds()
        for turn in merged_turns(said["contents"]):
            document["messages"] += messages_of(turn, ids)
        for name, value in said.get("generationConfig", {}).items():
            if name in _SAME:
                # 40.0 is a whole number to Google.
                document[_SAME[name]] = int(value) if name == "topK" else value
            elif name == "responseModalities":
                document["modalities"] = [one.lower() for one in value]
            elif name not in ("responseMimeType", "responseSchema", "responseJsonSchema"):
                raise refuse(f"generationConfig.{name}")
        if format_ := format_of(said.get("generationConfig", {})):
            document["response_format"] = format_
        for name in _OWN:
            if name in said:
                document[name] = said[name]
        put_tools(said, document)
        return document

    # What a request means

    def meaning(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        said = spelled(body)
        if exchange.operation == "embeddings":
            if "instances" in said:
                said["parameters"] = {"autoTruncate": True, **said.get("parameters", {})}
            return dict(said)
        if "systemInstruction" in said:
            said["systemInstruction"] = [p["text"] for p in said["systemInstruction"]["parts"]]
        said["contents"] = [
            {**turn, "parts": [plain_part(part) for part in turn["parts"]]}
            for turn in merged_turns(said["contents"])
        ]
        config = {k: v for k, v in said.pop("generationConfig", {}).items() if v != {}}
        if "responseSchema" in config:
            config["responseJsonSchema"] = config.pop("responseSchema")
        if "responseJsonSchema" in config:
            config["responseJsonSchema"] = lowered(config["responseJsonSchema"])
        if config.get("responseModalities") == ["TEXT"]:
            del config["responseModalities"]
        if config.get("candidateCount") == 1:
            del config["candidateCount"]
        if config:
            said["generationConfig"] = config
        declared = []
        for tool in said.pop("tools", []):
            declared += [plain_declaration(one) for one in tool.pop("functionDeclarations", ())]
            if tool:
                said["ownTools"] = {**said.get("ownTools", {}), **tool}
        if declared:
            said["tools"] = declared
        choosing = said.get("toolConfig", {})
        if choosing.get("functionCallingConfig", {}).get("mode") == "AUTO":
            del choosing["functionCallingConfig"]
        if not choosing:
            said.pop("toolConfig", None)
        return dict(said)

    # The answer

    def read(self, exchange: Exchange) -> Reading:
        if exchange.status >= 400:
            return Reading(error=expected_error(exchange.status))
        if exchange.operation == "embeddings":
            return _read_embeddings(exchange)
        if b'"willContinue"' in exchange.body:
            raise refuse("streamed arguments were asked for")
        text = reasoning = ""
        calls: list[tuple[str, Any]] = []
        finish: str | None = None
        counts: Counts | None = None
        for response in _responses(exchange):
            usage = response.usage_metadata
            if usage is not None and usage.prompt_token_count is not None:
                given = (usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0)
                made = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
                counts = Counts(
                    input=given, cached=usage.cached_content_token_count or 0, output=made
                )
            if not response.candidates:
                blocked = response.prompt_feedback and response.prompt_feedback.block_reason
                finish = "content_filter" if blocked else finish
                continue
            (candidate,) = response.candidates
            for part in (candidate.content and candidate.content.parts) or ():
                if part.function_call and part.function_call.name:
                    calls.append((part.function_call.name, part.function_call.args or {}))
                elif part.thought:
                    reasoning += part.text or ""
                else:
                    text += part.text or ""
            if candidate.finish_reason is not None:
                finish = _STOPS.get(candidate.finish_reason.name, "stop")
        if calls and finish == "stop":
            finish = "tool_calls"
        choice = Choice(text=text, reasoning=reasoning, calls=tuple(calls), finish=finish)
        return Reading(choices=(choice,), counts=counts)


def _responses(exchange: Exchange) -> list[types.GenerateContentResponse]:
    """What the SDK's client makes of the recorded bytes."""
    body = exchange.body
    body = _NUMBERED.sub(lambda m: b'"%b":"%b"' % (m[1], _WORDS[m[1]][int(m[2])]), body)
    if exchange.stream and body.lstrip()[:1] == b"[":
        # The SDK never asks for the array that comes without ``alt=sse``, and does not read it.
        body = b"".join(b"data: %b\n\n" % dump(one) for one in json.loads(body))

    recorded, models = _client(exchange.provider == "vertex")
    recorded.answer = httpx.Response(exchange.status, headers=exchange.headers, content=body)
    if exchange.stream:
        return list(models.generate_content_stream(model="m", contents="x"))
    return [models.generate_content(model="m", contents="x")]


class _Recorded(httpx.BaseTransport):
    """Answers every call with the recording that is read at the moment."""

    answer: httpx.Response

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.answer


@functools.cache
def _client(vertex: bool) -> tuple[_Recorded, Any]:
    """The SDK's client, of which one takes long to make."""
    recorded = _Recorded()
    options = types.HttpOptions(httpx_client=httpx.Client(transport=recorded))
    client = genai.Client(vertexai=vertex, api_key="none", http_options=options)
    return recorded, client.models


def _place(exchange: Exchange) -> tuple[str, str]:
    found = re.search(r"/projects/([^/]+)/locations/([^/]+)/", unquote(exchange.url))
    project, location = (found[1], found[2]) if found else ("recorded", "global")
    # The names were taken out of some recordings.
    return ("recorded" if "<" in project else project, "global" if "<" in location else location)


def _read_embeddings(exchange: Exchange) -> Reading:
    body = json.loads(exchange.body)
    if "predictions" in body:
        rows = [one["embeddings"] for one in body["predictions"]]
        tokens = sum(int(row["statistics"]["token_count"]) for row in rows)
        counts: Counts | None = Counts(input=tokens)
        body = {"embeddings": [{"values": row["values"]} for row in rows]}
    else:
        usage = body.get("usageMetadata", {})
        told = usage.get("promptTokenCount")
        counts = None if told is None else Counts(input=told)
    answer = types.EmbedContentResponse.model_validate({"embeddings": body["embeddings"]})
    vectors = tuple(tuple(one.values or ()) for one in answer.embeddings or ())
    return Reading(vectors=vectors, counts=counts)
