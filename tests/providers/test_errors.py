"""What an upstream's error becomes: status, type, code, message and Retry-After."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asgi_llm.errors import (
    ProviderError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RawHeaders,
)
from asgi_llm.providers._errors import parse_error, parse_stream_error

NOW = 1_700_000_000.0
"""2023-11-14 22:13:20 UTC."""


def parse(status: int, body: Any = b"", headers: RawHeaders | None = None) -> ProviderError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_error(
        status, headers or [], data, provider="up", secrets=["hunter2hunter2"], now=lambda: NOW
    )


def openai_error(**fields: Any) -> dict[str, Any]:
    return {"error": {"message": "m", "type": "invalid_request_error", "param": None, **fields}}


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 418, 499])
def test_a_4xx_keeps_its_status_and_the_fields_of_the_openai_error_object(status: int) -> None:
    """The client sees the upstream's own status, type, code, param and message."""
    error = parse(status, openai_error(code="odd_value", param="messages[0].role", message="No."))
    assert isinstance(error, ProviderRejectedError)
    assert (status, "invalid_request_error", "odd_value", "messages[0].role", "No.") == (
        error.status,
        error.type,
        error.code,
        error.param,
        error.message,
    )


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"error": "model is loading"}, "model is loading", None),
        ({"message": "nope"}, "nope", None),
        ({"detail": "nope"}, "nope", None),
        ({"error": {"message": {"detail": "nope"}}}, "nope", None),
        ([{"error": {"code": 400, "message": "nope", "status": "INVALID_ARGUMENT"}}], "nope", None),
        (
            {"detail": [{"loc": ["body", "messages", 0, "content"], "msg": "Field required"}]},
            "messages[0].content: Field required",
            "messages[0].content",
        ),
        (
            {
                "object": "error",
                "message": {
                    "detail": [
                        {"type": "extra_forbidden", "loc": ["body", "user"], "msg": "Not permitted"}
                    ]
                },
                "type": "invalid_request_error",
            },
            "user: Not permitted",
            "user",
        ),
        (
            {"message": '{"detail":[{"loc":["body","top_k"],"msg":"Not permitted"}]}'},
            "top_k: Not permitted",
            "top_k",
        ),
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": "too many eggs"}}},
            "too many eggs",
            None,
        ),
        (
            {"error": {"message": "x", "metadata": {"raw": '{"error":{"message":"deep"}}'}}},
            "deep",
            None,
        ),
        ("just a string", "just a string", None),
        ({"error": "not_found_error", "message": "gone"}, "gone", None),
        ({"errors": ["a", {"message": "b", "loc": "body"}, 3, "d"]}, "a; b", None),
        ({"detail": [{"loc": ["query", 1.5, "x"], "msg": "m"}]}, "query.x: m", "query.x"),
        ({"message": "[not json"}, "[not json", None),
        ({"message": "{}"}, "{}", None),
    ],
)
def test_the_message_is_found_in_every_known_shape(
    body: Any, message: str, param: str | None
) -> None:
    """OpenAI, Ollama, FastAPI, Mistral, Gemini, OpenRouter and nested bodies are all read."""
    error = parse(400, body)
    assert (message, param) == (error.message, error.param)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><head><title>502 Bad Gateway</title></head><body>nginx 10.0.0.3</body></html>",
        b"\x89PNG\r\n\x1a\n\x00\x00",
        b"{",
        b"[]",
        b"null",
        b"42",
        b'{"error": null}',
        b'{"error": {"message": 3.5}}',
        b'{"a":' * 5000,
        b"[" * 100_000,
        b'{"message":' * 2000 + b"1" + b"}" * 2000,
        b'"' + b"x" * 300_000 + b'"',
    ],
)
def test_a_body_that_explains_nothing_gives_a_short_message_of_our_own(body: bytes) -> None:
    """HTML, binary, broken, huge and empty bodies never reach the client."""
    error = parse(502, body)
    assert isinstance(error, ProviderUnavailableError)
    assert "The provider 'up' answered with status 502 and no explanation." == error.message


def test_one_line_of_plain_text_is_a_message() -> None:
    """Proxies answer in plain text, and that says more than nothing."""
    assert "no healthy upstream" == parse(503, b"no healthy upstream\n").message


@pytest.mark.parametrize("status", [401, 407])
def test_b22_the_upstreams_401_is_never_the_clients(status: int) -> None:
    """A bad provider key is a 502 with our code, and its text (about the key) stays here."""
    error = parse(status, openai_error(message="Incorrect API key provided: sk-abc"))
    assert isinstance(error, ProviderRejectedError)
    assert (502, "server_error", "provider_authentication_failed") == (
        error.status,
        error.type,
        error.code,
    )
    assert "sk-abc" not in error.message


def test_b22_a_403_becomes_502_and_keeps_its_reason() -> None:
    """The reason of a 403 (region, model access) helps, and is scrubbed."""
    error = parse(403, openai_error(message="Country not supported for org-abcdef123456"))
    assert (502, "provider_authentication_failed") == (error.status, error.code)
    assert (
        "The provider 'up' does not allow this: Country not supported for [redacted]"
        == error.message
    )


def test_402_is_the_gateways_empty_account() -> None:
    """Payment is between the gateway and its provider: 502, not the client's 402."""
    error = parse(402, openai_error())
    assert (502, "provider_quota_exhausted") == (error.status, error.code)


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (openai_error(type="tokens", code="rate_limit_exceeded"), "rate_limit_error", None),
        (openai_error(type="requests", code=None), "rate_limit_error", None),
        ({"error": {"code": 429, "message": "slow"}}, "rate_limit_error", None),
        ({"error": {"code": "RateLimitReached"}}, "rate_limit_error", "RateLimitReached"),
        (
            openai_error(type="insufficient_quota", code="insufficient_quota"),
            "insufficient_quota",
            "insufficient_quota",
        ),
    ],
)
def test_429_stays_429(body: Any, kind: str, code: str | None) -> None:
    """Rate limits and empty quotas keep their status; the type says which it was."""
    error = parse(429, body, [(b"retry-after", b"7")])
    assert isinstance(error, ProviderRejectedError)
    assert (429, kind, code or "rate_limit_exceeded", 7.0) == (
        error.status,
        error.type,
        error.code,
        error.retry_after_seconds,
    )


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([(b"retry-after", b"20")], 20.0),
        ([(b"retry-after", b"1.5")], 1.5),
        ([(b"retry-after", b"0")], 0.0),
        ([(b"retry-after", b"-1")], None),
        ([(b"retry-after", b"1000000000")], 3600.0),
        ([(b"retry-after", b"1e9")], 3600.0),
        ([(b"retry-after", b"inf")], None),
        ([(b"retry-after", b"nan")], None),
        ([(b"retry-after", b"soon")], None),
        ([(b"retry-after", b"")], None),
        ([(b"retry-after", b"\xff\xfe")], None),
        ([(b"retry-after", b"Tue, 14 Nov 2023 22:13:50 GMT")], 30.0),
        ([(b"retry-after", b"Tue, 14 Nov 2023 22:00:00 GMT")], 0.0),
        ([(b"retry-after", b"Fri, 31 Dec 9999 23:59:59 GMT")], 3600.0),
        ([(b"retry-after", b"Tue, 99 Nov 2023 99:00:00 GMT")], None),
        ([(b"retry-after-ms", b"250")], 0.25),
        ([(b"retry-after", b"1"), (b"retry-after-ms", b"0")], 1.0),
        ([(b"retry-after", b"9"), (b"retry-after-ms", b"500")], 0.5),
        ([], None),
    ],
)
def test_b21_retry_after_is_sane_or_absent(headers: RawHeaders, seconds: float | None) -> None:
    """Seconds, dates and milliseconds are read, capped to an hour; nonsense is dropped."""
    assert seconds == parse(429, openai_error(), headers).retry_after_seconds


def test_details_that_say_no_delay_are_no_retry_after() -> None:
    """Azure's details are a text, and Google's may be of other kinds."""
    for details in ("text", ["text", {}, {"retryDelay": 5}, {"retryDelay": "soon"}]):
        body = {"error": {"code": "x", "message": "m", "details": details}}
        assert parse(429, body).retry_after_seconds is None


def test_a_nested_error_object_in_a_stream_is_no_way_to_stop_the_app() -> None:
    """Deeper than Python's stack, it explains nothing."""
    data: Any = "m"
    for _ in range(5000):
        data = {"message": data}
    error = parse_stream_error({"error": data}, provider="up")
    assert "answered with status 500 and no explanation" in error.message


def test_a_code_that_is_a_number_but_no_status_is_kept() -> None:
    """Z.AI and Mistral number their errors."""
    assert "1500" == parse(400, {"error": {"message": "m", "code": 1500}}).code


def test_googles_retry_info_is_a_retry_after() -> None:
    """Gemini's OpenAI endpoint says when to come back in the body only."""
    body = [{"error": {"code": 429, "message": "quota", "details": [{"retryDelay": "21.5s"}]}}]
    assert 21.5 == parse(429, body).retry_after_seconds
    body[0]["error"]["details"] = [{"retryDelay": "99999s"}]
    assert 3600.0 == parse(429, body).retry_after_seconds


@pytest.mark.parametrize("status", [408, 504, 524])
def test_upstream_timeouts_are_504(status: int) -> None:
    """A 408 of the provider is no timeout of the client's."""
    error = parse(status)
    assert isinstance(error, ProviderTimeoutError)
    assert (504, "timeout_error") == (error.status, error.type)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b""),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        (500, {"error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ],
)
def test_an_overloaded_provider_is_503_with_retry_after(status: int, body: Any) -> None:
    """503, 529 and overloaded_error say the same."""
    error = parse(status, body, [(b"retry-after", b"3")])
    assert isinstance(error, ProviderUnavailableError)
    assert (503, "model_overloaded", 3.0) == (error.status, error.code, error.retry_after_seconds)


@pytest.mark.parametrize("status", [100, 103, 200, 204, 301, 302, 307, 500, 501, 502, 520, 599])
def test_b21_what_is_no_answer_is_502(status: int) -> None:
    """Redirects are not followed, and a broken provider is a bad gateway."""
    error = parse(status, b"", [(b"location", b"https://elsewhere.example/")])
    assert isinstance(error, ProviderUnavailableError)
    assert (502, "provider_unavailable") == (error.status, error.code)


@pytest.mark.parametrize(
    "body",
    [
        openai_error(code="model_not_found"),
        openai_error(code="DeploymentNotFound", message="The API deployment does not exist."),
        {"error": "model 'nope:latest' not found"},
        {"detail": "Model nope is not supported."},
    ],
)
def test_a_404_about_a_model_has_the_code_model_not_found(body: Any) -> None:
    """Whatever the provider calls it."""
    error = parse(404, body)
    assert (404, "model_not_found") == (error.status, error.code)


def test_a_404_about_something_else_does_not_blame_the_model() -> None:
    """A wrong path is a wrong path."""
    assert "provider_rejected" == parse(404, b"404 page not found").code


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, openai_error(code="context_length_exceeded")),
        (413, openai_error(code="context_length_exceeded")),
        (400, {"error": {"type": "exceed_context_size_error", "message": "too big", "code": 400}}),
        (400, {"error_type": "TOO_MANY_TOKENS", "message": "too many tokens"}),
        (400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}),
        *(
            (400, {"error": {"message": text, "type": "BadRequestError", "code": 400}})
            for text in (
                "This model's maximum context length is 8192 tokens. However, you requested 9000.",
                "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
                "the request exceeds the available context size. try increasing the context size",
                "This model's maximum prompt length is 131072 but the request contains 200000.",
                "Your request exceeded model token limit: 8192",
                "The input token count (1200000) exceeds the maximum number of tokens allowed",
                "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
                "Please reduce the length of the messages or completion.",
                "the input length exceeds the context length",
                "too many tokens: size limit exceeded by 25836 tokens.",
                "prompt is too long: 210000 tokens > 200000 maximum",
            )
        ),
    ],
)
def test_a_context_that_is_too_long_has_one_code(status: int, body: Any) -> None:
    """By the provider's code first, then by the known texts."""
    error = parse(status, body)
    assert isinstance(error, ProviderRejectedError)
    assert (status, "context_length_exceeded") == (error.status, error.code)


def test_a_context_that_is_too_long_is_the_clients_error_also_where_it_came_as_500() -> None:
    """Some servers answer 500 to a long prompt; retrying it elsewhere would not help."""
    error = parse(500, {"error": "the request exceeds the available context size"})
    assert (400, "context_length_exceeded") == (error.status, error.code)


def test_ordinary_words_about_length_are_no_context_error() -> None:
    """The table of texts is not a search for the word 'long'."""
    error = parse(400, openai_error(code="string_above_max_length", message="'user' is too long"))
    assert "string_above_max_length" == error.code


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, openai_error(code="content_filter")),
        (400, openai_error(code="content_policy_violation")),
        (
            400,
            {
                "error": {
                    "message": "filtered",
                    "code": "BadRequest",
                    "innererror": {"code": "ResponsibleAIPolicyViolation"},
                }
            },
        ),
        (403, openai_error(code="content_filter")),
    ],
)
def test_a_content_filter_is_a_400_of_its_own_code(status: int, body: Any) -> None:
    """Also where the provider says 403, which would else look like a bad key."""
    error = parse(status, body)
    assert isinstance(error, ProviderRejectedError)
    assert (400, "content_filter") == (error.status, error.code)


def test_type_and_code_that_are_no_words_are_dropped() -> None:
    """Neither markup, nor a configured secret, nor a key comes through a field."""
    error = parse(400, openai_error(type="<b>bad</b>", code="hunter2hunter2"))
    assert ("invalid_request_error", "provider_rejected") == (error.type, error.code)
    assert "provider_rejected" == parse(400, openai_error(code="sk-abcdef123456")).code
    assert parse(400, openai_error(code="a" * 100)).code == "provider_rejected"


def test_b22_secrets_leave_the_message_and_the_param() -> None:
    """The configured key is taken out wherever it is echoed."""
    error = parse(400, openai_error(message="key hunter2hunter2 bad", param="hunter2hunter2[0]"))
    assert ("key [redacted] bad", "[redacted][0]") == (error.message, error.param)


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        ({"error": {"message": "m", "code": 429}}, 429, "rate_limit_exceeded"),
        ({"error": {"message": "m", "code": 400}, "choices": []}, 400, "provider_rejected"),
        (
            {"error": {"message": "m", "code": "tool_use_failed", "status_code": 400}},
            400,
            "tool_use_failed",
        ),
        ({"error": {"message": "m", "type": "overloaded_error"}}, 503, "model_overloaded"),
        ({"error": {"message": "m", "type": "server_error"}}, 502, "provider_unavailable"),
        ({"error": {"message": "m", "code": 401}}, 502, "provider_authentication_failed"),
        ({"error": {"message": "m", "code": "401"}}, 502, "provider_authentication_failed"),
        ({"error": {"message": "m", "type": "invalid_request_error"}}, 400, "provider_rejected"),
        ({"error": {"message": "m", "code": "insufficient_quota"}}, 429, "insufficient_quota"),
        (
            {"error": {"message": "m", "code": "content_filter", "status": 400}},
            400,
            "content_filter",
        ),
        ({"error": {"message": "m", "code": "context_length_exceeded"}}, 400, None),
        ({"error": {"message": "m", "type": "timeout"}}, 504, "provider_timeout"),
        ({"error": "it broke"}, 502, "provider_unavailable"),
        ({"error": {"message": "m", "code": 200}}, 502, "provider_unavailable"),
        ("nonsense", 502, "provider_unavailable"),
        (None, 502, "provider_unavailable"),
    ],
)
def test_an_error_in_a_stream_has_the_status_that_it_names(
    data: Any, status: int, code: str | None
) -> None:
    """By its own status, then by its type or code; else the provider is at fault."""
    error = parse_stream_error(data, provider="up")
    assert (status, code or "context_length_exceeded") == (error.status, error.code)
