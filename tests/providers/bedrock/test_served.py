"""The adapter within the app, against a server on a real socket."""

from __future__ import annotations

import asyncio
import importlib
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import ProviderError
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.bedrock import Bedrock
from asgi_llm.state import USAGE, enter
from asgi_llm.testing import (
    Close,
    Exchange,
    ReceivedRequest,
    Reply,
    Reset,
    Step,
    Upstream,
    call,
    http_scope,
)
from asgi_llm.testing.recorder import Recorder
from asgi_llm.testing.replies import Wait

# It has no types.
_auth: Any = importlib.import_module("botocore.auth")
_awsrequest: Any = importlib.import_module("botocore.awsrequest")
_credentials: Any = importlib.import_module("botocore.credentials")

Framed = Callable[..., bytes]

ID, SECRET = "AKIDEXAMPLE0123456", "wJalrXUtnFEMIsecret+/key"
STREAM = [("content-type", "application/vnd.amazon.eventstream")]
JSON = [("content-type", "application/json")]
USED = {"inputTokens": 5, "outputTokens": 4, "totalTokens": 9}
EVENTS: list[tuple[str, Any]] = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"delta": {"text": "Grü"}, "contentBlockIndex": 0}),
    ("contentBlockDelta", {"delta": {"text": "ße!"}, "contentBlockIndex": 0}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("messageStop", {"stopReason": "end_turn"}),
    ("metadata", {"usage": USED}),
]
ANSWER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Grüße!"}]}},
    "stopReason": "end_turn",
    "usage": USED,
}


def adapter(upstream: Upstream, **options: Any) -> Bedrock:
    keys = {"access_key_id": ID, "secret_access_key": SECRET}
    return Bedrock(**{"region": "us-east-1", "base_url": upstream.url, **keys, **options})


async def ask(upstream: Upstream, **document: Any) -> Recorder:
    app = ProviderApp([adapter(upstream)])
    messages = [{"role": "user", "content": "hi ü"}]
    asked = {"model": "bedrock/vendor.m-v1:0", "messages": messages, **document}
    async with asyncio.timeout(30):
        recorder = await call(app, json=asked)
    await app.aclose()
    return recorder


def is_signed(request: ReceivedRequest) -> bool:
    """Whether the signature is right for what arrived, as AWS would find out."""
    host = (request.header("host") or b"").decode()
    url = f"http://{host}{request.target}"
    headers = {"content-type": "application/json", "host": host}
    theirs = _awsrequest.AWSRequest(method="POST", url=url, data=request.body, headers=headers)
    theirs.headers["X-Amz-Date"] = (request.header("x-amz-date") or b"").decode()
    theirs.context["timestamp"] = theirs.headers["X-Amz-Date"]
    signer = _auth.SigV4Auth(_credentials.Credentials(ID, SECRET), "bedrock", "us-east-1")
    text = signer.string_to_sign(theirs, signer.canonical_request(theirs))
    wanted = f"Signature={signer.signature(text, theirs)}"
    return (request.header("authorization") or b"").decode().endswith(wanted)


async def test_an_answer_arrives_for_a_signed_call() -> None:
    """What arrived is what was signed, host and path included."""
    async with Upstream() as upstream:
        upstream.script(Reply(headers=JSON, body=json.dumps(ANSWER).encode()))
        found = await ask(upstream)
        (row,) = await upstream.served(1)
    assert "Grüße!" == json.loads(found.body)["choices"][0]["message"]["content"]
    assert "/model/vendor.m-v1%3A0/converse" == row.request.target
    assert is_signed(row.request)


async def test_a_stream_arrives(framed: Framed) -> None:
    """Written byte by byte, with the end that clients know."""
    async with Upstream() as upstream:
        body = framed(*EVENTS)
        upstream.script(Reply(headers=STREAM, body=body, framing="chunked", split="every"))
        found = await ask(upstream, stream=True, stream_options={"include_usage": True})
        (row,) = await upstream.served(1)
    *events, end, _ = found.body.split(b"\n\n")
    chunks = [json.loads(one[6:]) for one in events]
    assert "Grüße!" == "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )
    assert (b"data: [DONE]", 9) == (end, chunks[-1]["usage"]["total_tokens"])
    assert "/model/vendor.m-v1%3A0/converse-stream" == row.request.target
    assert is_signed(row.request)


async def test_a_chunk_leaves_before_the_next_one_comes(framed: Framed) -> None:
    """The translation waits for nothing but the end of a message."""
    go = asyncio.Event()
    async with Upstream() as upstream:
        steps: list[Step] = [framed(*EVENTS[:2]), Wait(go), framed(*EVENTS[2:])]
        upstream.script(Reply(headers=STREAM, body=steps, framing="chunked"))
        app = ProviderApp([adapter(upstream)])
        messages = [{"role": "user", "content": "hi"}]
        body = json.dumps({"model": "bedrock/m", "messages": messages, "stream": True}).encode()
        scope = http_scope(headers=[("content-type", "application/json")])
        async with asyncio.timeout(10), Exchange(app, scope, body=body) as exchange:
            assert "Grü".encode() in await exchange.next_chunk()
            go.set()
            recorder = await exchange.finish()
        assert recorder.body.endswith(b"data: [DONE]\n\n")
        await app.aclose()


async def test_case_82_no_stream_that_is_cut_ends_as_a_success(framed: Framed) -> None:
    """Before its message has ended, by FIN or RST, with framing or without."""
    data, last = framed(*EVENTS), len(framed(*EVENTS[:5])) - 1
    chance = random.Random(7)
    wrong: list[tuple[int, str]] = []
    async with Upstream() as upstream:
        for _ in range(24):
            cut = chance.randrange(1, last)
            ending: Step = Close() if chance.random() < 0.5 else Reset()
            framing: Any = chance.choice(["chunked", "close"])
            upstream.script(Reply(headers=STREAM, body=[data[:cut], ending], framing=framing))
            found = await ask(upstream, stream=True)
            if b'"finish_reason":"' in found.body or b'"error"' not in found.body:
                wrong.append((cut, framing))
    assert [] == wrong


async def test_case_80_83_an_exception_amid_a_stream_is_its_last_event(framed: Framed) -> None:
    """In the client's form, with usage that says that it is an estimate."""
    data = framed(*EVENTS[:2], ("!throttlingException", {"message": "Too many."}))
    async with Upstream() as upstream:
        upstream.script(Reply(headers=STREAM, body=data, framing="chunked"))
        app = ProviderApp([adapter(upstream)])
        messages = [{"role": "user", "content": "hi"}]
        body = json.dumps({"model": "bedrock/m", "messages": messages, "stream": True}).encode()
        scope, state = enter(http_scope(headers=[("content-type", "application/json")]))
        async with asyncio.timeout(10), Exchange(app, scope, body=body) as exchange:
            recorder = await exchange.finish()
        await app.aclose()
    *_, error, done, _ = recorder.body.split(b"\n\n")
    assert (b"data: [DONE]", "Too many.") == (done, json.loads(error[6:])["error"]["message"])
    usage = state.get(USAGE)
    assert usage is not None
    assert usage.estimated


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "name", "code"),
    [
        (400, "ValidationException", 400),
        (400, "ServiceQuotaExceededException", 429),
        (403, "AccessDeniedException", 502),
        (403, "UnrecognizedClientException", 502),
        (404, "ResourceNotFoundException", 404),
        (408, "ModelTimeoutException", 504),
        (424, "ModelErrorException", 502),
        (429, "ThrottlingException", 429),
        (429, "ModelNotReadyException", 503),
        (500, "InternalServerException", 502),
        (503, "ServiceUnavailableException", 503),
    ],
)
async def test_case_80_89_errors_have_their_status(
    status: int, name: str, code: int, stream: bool
) -> None:
    """Named in a header or in the body; no credential is ever shown."""
    message = f"bad {SECRET}"
    named = [*JSON, ("x-amzn-errortype", f"{name}:http://internal.amazon.com/x/")]
    typed = {"__type": f"com.amazon.coral.service#{name}", "Message": message}
    async with Upstream() as upstream:
        for headers, body in ((named, {"message": message}), (JSON, typed)):
            upstream.script(Reply(status=status, headers=headers, body=json.dumps(body).encode()))
            found = await ask(upstream, stream=stream)
            assert (code, False) == (found.status, SECRET.encode() in found.body)


async def test_case_89_retry_after_is_told() -> None:
    """As it came."""
    headers = [*JSON, ("retry-after", "7")]
    async with Upstream() as upstream:
        upstream.script(Reply(status=429, headers=headers, body=b'{"message":"Slow down."}'))
        found = await ask(upstream)
    assert (429, [b"7"]) == (
        found.status,
        [value for name, value in found.headers if name == b"retry-after"],
    )


@pytest.mark.parametrize(
    "text",
    [
        "Input is too long for requested model.",
        "The model returned the following errors: prompt is too long: 250000 tokens > 200000",
        "The model returned the following errors: input length and `max_tokens` exceed context "
        "limit: 190000 + 20000 > 200000",
    ],
)
async def test_case_90_a_prompt_that_is_too_long_has_one_code(text: str) -> None:
    """Whatever the words."""
    async with Upstream() as upstream:
        body = json.dumps({"message": text}).encode()
        upstream.script(Reply(status=400, headers=JSON, body=body))
        found = await ask(upstream)
    assert (400, "context_length_exceeded") == (
        found.status,
        json.loads(found.body)["error"]["code"],
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[1]", b'{"message":5}'])
async def test_an_error_without_words_has_ours(body: bytes) -> None:
    """A proxy's page is not repeated."""
    async with Upstream() as upstream:
        upstream.script(Reply(status=500, headers=JSON, body=body))
        found = await ask(upstream)
    assert 502 == found.status
    assert b"answered with status 500 and no explanation" in found.body


async def test_case_81_an_exception_at_the_beginning_has_its_own_status(framed: Framed) -> None:
    """Though HTTP said 200."""
    data = framed(("!throttlingException", {"message": "Too many."}))
    async with Upstream() as upstream:
        upstream.script(Reply(headers=STREAM, body=data, framing="chunked"))
        assert 429 == (await ask(upstream, stream=True)).status


async def test_case_92_93_cohere_is_asked_in_batches_and_counts_in_headers() -> None:
    """One answer, in order, with the tokens of all calls."""

    def handler(request: ReceivedRequest) -> Reply:
        asked = json.loads(request.body)["texts"]
        body = json.dumps({"embeddings": {"float": [[float(text), 0.5] for text in asked]}})
        headers = [*JSON, ("x-amzn-bedrock-input-token-count", str(len(asked)))]
        return Reply(headers=headers, body=body.encode())

    async with Upstream(handler) as upstream:
        app = ProviderApp([adapter(upstream)])
        for size, calls in ((1, 1), (100, 2)):
            texts = [str(index) for index in range(size)]
            async with asyncio.timeout(30):
                found = await call(
                    app,
                    http_scope("POST", "/v1/embeddings"),
                    json={"model": "bedrock/cohere.embed-v4:0", "input": texts},
                )
            document = json.loads(found.body)
            assert [[float(text), 0.5] for text in texts] == [
                row["embedding"] for row in document["data"]
            ]
            assert size == document["usage"]["prompt_tokens"]
            assert calls <= len(upstream.ledger)
        await app.aclose()
        rows = await upstream.served(3)
    assert all(is_signed(row.request) for row in rows)


# Models


def test_models_that_can_be_called_are_listed() -> None:
    """By their ids; those that need an inference profile are for the configuration to name."""
    rows = [
        {"modelId": "a.text", "providerName": "A", "outputModalities": ["TEXT"]},
        {
            "modelId": "a.vectors",
            "outputModalities": ["EMBEDDING"],
            "inferenceTypesSupported": ["ON_DEMAND", "PROVISIONED"],
        },
        {"modelId": "a.pictures", "outputModalities": ["IMAGE"]},
        {
            "modelId": "a.profiled",
            "outputModalities": ["TEXT"],
            "inferenceTypesSupported": ["INFERENCE_PROFILE"],
        },
        {"modelId": ""},
    ]
    cards = Bedrock(region="us-east-1", api_key="k").parse_models(
        json.dumps({"modelSummaries": rows}).encode()
    )
    assert [("a.text", "A"), ("a.vectors", "aws")] == [(card.id, card.owned_by) for card in cards]


@pytest.mark.parametrize("body", [b"{", b"{}", b'{"modelSummaries":[{"modelId":5}]}', b"\xff"])
def test_what_is_no_list_of_models_is_an_error(body: bytes) -> None:
    """Of the provider's."""
    with pytest.raises(ProviderError) as caught:
        Bedrock(region="us-east-1", api_key="k").parse_models(body)
    assert "invalid_provider_response" == caught.value.code


async def test_an_endpoint_of_ones_own_lists_what_is_configured() -> None:
    """The list is at another host, which nobody named."""
    async with Upstream() as upstream:
        app = ProviderApp([adapter(upstream, models=["eu.a.profile-v1:0"])])
        async with asyncio.timeout(30):
            found = await call(app, http_scope("GET", "/v1/models"))
        await app.aclose()
        assert [] == list(upstream.ledger)
    assert ["bedrock/eu.a.profile-v1:0"] == [one["id"] for one in json.loads(found.body)["data"]]
