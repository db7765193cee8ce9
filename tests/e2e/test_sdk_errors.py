"""Each error class of the official client is raised for its status, and says what we said."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from starlette.types import Receive, Scope, Send

import asgi_llm
from asgi_llm import errors

ASK: Any = [{"role": "user", "content": "one two three four five six"}]


def make_client(origin: str, **options: Any) -> openai.AsyncOpenAI:
    """A strict client that does not try again."""
    return openai.AsyncOpenAI(
        api_key="sk-none",
        base_url=f"{origin}/v1",
        max_retries=0,
        _strict_response_validation=True,
        **options,
    )


UPSTREAM = [
    ("error-400", openai.BadRequestError, 400),
    ("error-401", openai.InternalServerError, 502),
    ("error-403", openai.InternalServerError, 502),
    ("error-404", openai.NotFoundError, 404),
    ("error-409", openai.ConflictError, 409),
    ("error-422", openai.UnprocessableEntityError, 422),
    ("error-429", openai.RateLimitError, 429),
    ("error-500", openai.InternalServerError, 502),
    ("error-503", openai.InternalServerError, 503),
    ("error-in-stream", openai.InternalServerError, 502),
    ("cut", openai.InternalServerError, 502),
    ("timeout", openai.InternalServerError, 504),
]


@pytest.mark.parametrize(("model", "raised", "status"), UPSTREAM, ids=[row[0] for row in UPSTREAM])
async def test_upstream_errors(
    gateway_origin: str, model: str, raised: type[openai.APIStatusError], status: int
) -> None:
    """What an upstream answers, or fails to, raises the class of the status that we make of it."""
    async with asyncio.timeout(30), make_client(gateway_origin) as client:
        with pytest.raises(raised) as caught:
            await client.chat.completions.create(model=f"echo/{model}", messages=ASK)
    assert status == caught.value.status_code
    assert raised is type(caught.value)
    assert str(caught.value.request_id).startswith("req_")


async def test_retry_after_reaches_the_client(gateway_origin: str) -> None:
    """The upstream's ``Retry-After`` is what the client's own retries go by."""
    async with asyncio.timeout(30), make_client(gateway_origin) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="echo/error-429", messages=ASK)
    assert "1" == caught.value.response.headers["retry-after"]


@pytest.mark.parametrize("model", ["cut", "error-in-stream"])
async def test_a_stream_that_goes_wrong_raises(gateway_origin: str, model: str) -> None:
    """A stream that broke after its start raises APIError, and no chunk has a finish reason."""
    reasons: list[str | None] = []
    async with asyncio.timeout(30), make_client(gateway_origin) as client:
        stream = await client.chat.completions.create(
            model=f"echo/{model}", messages=ASK, stream=True
        )
        with pytest.raises(openai.APIError):
            async for chunk in stream:
                reasons += [choice.finish_reason for choice in chunk.choices]
    assert reasons
    assert {None} == set(reasons)


OWN = [
    (errors.InvalidRequestError("x", status=status), raised)
    for status, raised in (
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (405, openai.APIStatusError),
        (408, openai.APIStatusError),
        (415, openai.APIStatusError),
        (422, openai.UnprocessableEntityError),
    )
] + [
    (errors.AuthenticationError("x"), openai.AuthenticationError),
    (errors.PermissionDeniedError("x"), openai.PermissionDeniedError),
    (errors.ModelNotFoundError("x"), openai.NotFoundError),
    (errors.BudgetExceededError("x"), openai.BadRequestError),
    (errors.ContentFilterError("x"), openai.BadRequestError),
    (errors.RequestTooLargeError("x"), openai.APIStatusError),
    (errors.RateLimitError("x", retry_after_seconds=2.5), openai.RateLimitError),
    (errors.InternalError("x"), openai.InternalServerError),
    (errors.StoreError("x"), openai.InternalServerError),
    (errors.ProviderRejectedError("x"), openai.BadRequestError),
    (errors.ProviderUnavailableError("x"), openai.InternalServerError),
    (errors.ProviderTimeoutError("x"), openai.InternalServerError),
]


@pytest.mark.parametrize(
    ("error", "raised"), OWN, ids=[f"{type(error).__name__} {error.status}" for error, _ in OWN]
)
async def test_own_errors(error: errors.LLMError, raised: type[openai.APIStatusError]) -> None:
    """Every error of the tree raises the client's class, with status, type, code and parameter."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    gateway = asgi_llm.compose([], app)
    async with (
        asyncio.timeout(30),
        asgi_llm.client(gateway) as http,
        make_client("http://gateway", http_client=http) as client,
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model="m", messages=ASK)
    got = caught.value
    assert raised is type(got)
    assert (error.status, error.type, error.code, error.param) == (
        got.status_code,
        got.type,
        got.code,
        got.param,
    )


async def test_unknown_model() -> None:
    """Where there are aliases, a name that is none of them raises NotFoundError."""
    targets = [{"provider": "echo", "model": "echo"}]
    gateway = asgi_llm.load_gateway(
        {"providers": {"echo": {"type": "echo"}}, "models": {"fast": {"targets": targets}}}
    )
    async with (
        asyncio.timeout(30),
        asgi_llm.client(gateway) as http,
        make_client("http://gateway", http_client=http) as client,
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="fats", messages=ASK)
    assert ("model_not_found", "model") == (caught.value.code, caught.value.param)
    assert "'fast'" in caught.value.message


async def test_no_gateway_is_a_connection_error(unused_tcp_port: int) -> None:
    """Where nothing listens the client raises APIConnectionError, and no status."""
    async with asyncio.timeout(30), make_client(f"http://127.0.0.1:{unused_tcp_port}") as client:
        with pytest.raises(openai.APIConnectionError):
            await client.chat.completions.create(model="m", messages=ASK)
