"""Requests that the adapters build, and the streams of their dialects."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError, ModelNotFoundError
from asgi_llm.providers._passthrough import PATHS, OpenAIFormat
from asgi_llm.providers.azure import Azure
from asgi_llm.providers.base import Provider, StreamDecoder
from asgi_llm.providers.compatible import COMPATIBLE, compatible
from asgi_llm.providers.openai import OpenAI
from asgi_llm.types import Deployment

CHAT = {"model": "alias", "messages": [{"role": "user", "content": "hi"}], "x_unknown": [1]}
KEY = "sk-test-0123456789"


def at(adapter: OpenAIFormat, model: str = "m", **more: Any) -> Deployment:
    return Deployment(provider=adapter.name, model=model, **more)


def decoder_of(adapter: OpenAIFormat) -> StreamDecoder:
    (decoder,) = adapter.stream_decoders(adapter.translate("chat", CHAT, at(adapter)))
    return decoder


def build(
    adapter: OpenAIFormat, model: str = "m", **document: Any
) -> tuple[str, dict[str, str], Any]:
    request = adapter.translate("chat", {**CHAT, **document}, at(adapter, model)).request
    assert isinstance(request.body, bytes)
    headers = {name.decode(): value.decode() for name, value in request.headers}
    return request.url, headers, json.loads(request.body)


def azure(**options: Any) -> Azure:
    return Azure(
        **{
            "endpoint": "https://res.openai.azure.com",
            "api_key": KEY,
            "api_version": "2024-10-21",
            **options,
        }
    )


def test_openai_sends_the_document_with_the_deployments_model_and_its_credentials() -> None:
    """Unknown fields survive; our reserved key does not leave."""
    adapter = OpenAI(api_key=KEY, organization="org-a", project="proj_b", headers=[("X-Team", "t")])
    url, headers, body = build(adapter, "gpt-4o", asgi_llm={"x": 1})
    assert "https://api.openai.com/v1/chat/completions" == url
    assert (f"Bearer {KEY}", "org-a", "proj_b", "t", "application/json") == (
        headers["authorization"],
        headers["openai-organization"],
        headers["openai-project"],
        headers["x-team"],
        headers["content-type"],
    )
    assert {**CHAT, "model": "gpt-4o"} == body


def test_openai_without_a_key_sends_no_authorization() -> None:
    """For local servers."""
    _, headers, _ = build(OpenAI(api_key=None, base_url="http://127.0.0.1:8001/v1/"))
    assert "authorization" not in headers


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"api_key": ""}, "api_key"),
        ({"api_key": "a\r\nx-evil: 1"}, "api_key"),
        ({"api_key": " a"}, "api_key"),
        ({"api_key": "schlüssel"}, "api_key"),
        ({"base_url": "api.openai.com/v1"}, "base_url"),
        ({"base_url": "ftp://host/v1"}, "base_url"),
        ({"base_url": "http://user:pw@host/v1"}, "base_url"),
        ({"base_url": "http://host/v1?x=1"}, "base_url"),
        ({"base_url": "http://host/v1#x"}, "base_url"),
        ({"base_url": "http://ho st/v1"}, "base_url"),
        ({"base_url": "http://host:99999/v1"}, "base_url"),
        ({"base_url": "http://[::1/v1"}, "base_url"),
        ({"organization": "a\nb"}, "organization"),
        ({"headers": [("bad name", "v")]}, "headers"),
        ({"headers": [("Host", "v")]}, "headers"),
        ({"headers": [("x", "a\nb")]}, "headers[x]"),
        ({"quirks": ["nope"]}, "quirks"),
    ],
)
def test_openai_refuses_a_bad_option_by_name(options: dict[str, Any], param: str) -> None:
    """At construction, and without showing a credential."""
    with pytest.raises(ConfigurationError) as caught:
        OpenAI(**{"api_key": KEY, **options})
    assert param == caught.value.param
    assert KEY not in caught.value.message
    assert "x-evil" not in caught.value.message


def test_errors_of_an_adapter_hold_none_of_its_secrets() -> None:
    """The key, the ids and sensitive headers, in whatever field the provider repeats them."""
    adapter = OpenAI(
        api_key="topsecret-one",
        organization="orgsecret-two",
        headers=[("X-Api-Token", "tok-three")],
    )
    body = {"error": {"message": "topsecret-one orgsecret-two tok-three", "code": "topsecret-one"}}
    error = adapter.parse_error(400, [], json.dumps(body).encode())
    assert "[redacted] [redacted] [redacted]" == error.message
    assert "provider_rejected" == error.code


def test_azure_names_the_deployment_in_the_path_and_the_key_in_its_own_header() -> None:
    """The api-version is the query; no bearer token is sent."""
    adapter = azure(deployments={"gpt-4o": "my-deployment"})
    url, headers, body = build(adapter, "gpt-4o")
    assert (
        "https://res.openai.azure.com/openai/deployments/my-deployment/chat/completions"
        "?api-version=2024-10-21"
    ) == url
    assert (KEY, False) == (headers["api-key"], "authorization" in headers)
    assert CHAT["messages"] == body["messages"]
    assert (("gpt-4o",), "azure.ai.openai") == (adapter.models, adapter.provider_name)
    listing: Provider = adapter
    assert listing.build_models_request() is None


@pytest.mark.parametrize("operation", sorted(PATHS))
def test_azure_has_every_operation_below_the_deployment(operation: Any) -> None:
    """One form for all of them."""
    adapter = azure()
    assert (
        f"https://res.openai.azure.com/openai/deployments/d{PATHS[operation]}?api-version=2024-10-21"
    ) == adapter.url_for(operation, at(adapter, "d"))


@pytest.mark.parametrize(
    "model",
    [
        "../../x",
        "..",
        ".",
        "%2e%2e",
        "a/b",
        "a\\b",
        "a?b",
        "a#b",
        "a b",
        "a\r\nHost: evil",
        "a\n",
        "",
        "ä",
        "a" * 65,
    ],
)
def test_a_model_name_cannot_leave_its_place_in_an_azure_url(model: str) -> None:
    """Traversal, queries, fragments and line ends are refused before anything is sent."""
    with pytest.raises(ModelNotFoundError):
        build(azure(), model)


def test_a_model_without_an_azure_deployment_is_not_found() -> None:
    """With a mapping, only its names exist."""
    with pytest.raises(ModelNotFoundError):
        build(azure(deployments={"a": "b"}), "b")


def test_azure_v1_and_model_inference_have_the_model_in_the_body() -> None:
    """The newer URL forms."""
    v1 = azure(api="v1", api_version=None)
    url, _, body = build(v1, "gpt-4o")
    assert ("https://res.openai.azure.com/openai/v1/chat/completions", "gpt-4o") == (
        url,
        body["model"],
    )
    models = azure(api="models", api_version="2024-05-01-preview", models=["grok-4"])
    url, _, body = build(models, "grok-4")
    assert (
        "https://res.openai.azure.com/models/chat/completions?api-version=2024-05-01-preview"
    ) == url
    assert ("azure.ai.inference", ("grok-4",)) == (models.provider_name, models.models)


def test_azure_asks_its_token_provider_for_each_call() -> None:
    """Tokens expire; uploads get one too."""
    tokens = iter(["t1", "t2", "t3"])
    adapter = azure(api_key=None, token_provider=lambda: next(tokens))

    async def form() -> Any:
        yield b"--x--"

    first, second = build(adapter)[1], build(adapter)[1]
    upload = adapter.build_upload_request(
        "transcription", at(adapter), b"multipart/form-data", form()
    )
    assert ["Bearer t1", "Bearer t2"] == [h["authorization"] for h in (first, second)]
    assert (b"authorization", b"Bearer t3") in upload.headers
    assert "api-key" not in first


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"api_key": None}, "api_key"),
        ({"token_provider": lambda: "t"}, "api_key"),
        ({"api_version": None}, "api_version"),
        ({"api_version": "2024&x=1"}, "api_version"),
        ({"api": "classic"}, "api"),
        ({"endpoint": "res.openai.azure.com"}, "endpoint"),
        ({"deployments": {"a": "../b"}}, "deployments"),
        ({"api": "v1", "deployments": {"a": "b"}}, "deployments"),
    ],
)
def test_azure_refuses_a_bad_option_by_name(options: dict[str, Any], param: str) -> None:
    """At construction."""
    with pytest.raises(ConfigurationError) as caught:
        azure(**options)
    assert param == caught.value.param


def test_there_are_at_least_twenty_compatible_endpoints() -> None:
    """Those that people name first among them."""
    assert {
        "together",
        "groq",
        "openrouter",
        "deepseek",
        "mistral_openai",
        "fireworks",
        "perplexity",
    } <= (COMPATIBLE.keys())
    assert {"xai", "cerebras", "huggingface", "nvidia", "vllm", "lm_studio"} <= (COMPATIBLE.keys())
    assert {
        "sglang",
        "llama_cpp",
        "gemini_openai",
        "cohere_openai",
        "writer",
        "ollama_openai",
    } <= COMPATIBLE.keys()
    assert len(COMPATIBLE) >= 20


@pytest.mark.parametrize("type_name", sorted(COMPATIBLE))
def test_a_row_makes_an_adapter(type_name: str) -> None:
    """Its URL, its key, its operations and its quirks are those of the row."""
    row = COMPATIBLE[type_name]
    base = row.base_url or "https://account.example/v1"
    adapter = compatible(type_name, api_key=KEY, base_url=None if row.base_url else base)
    url, headers, body = build(adapter, max_completion_tokens=5)
    assert base + row.paths.get("chat", "/chat/completions") == url
    assert f"Bearer {KEY}" == headers["authorization"]
    assert ("max_tokens" if "max_tokens_only" in row.quirks else "max_completion_tokens") in body
    assert (type_name, row.provider_name, row.operations) == (
        adapter.name,
        adapter.provider_name,
        adapter.operations,
    )
    assert base.startswith("https://") or row.key_variable is None


def test_a_local_server_needs_no_key_and_a_hosted_one_does() -> None:
    """The message names the variable that usually holds it."""
    assert "authorization" not in build(compatible("ollama_openai"))[1]
    with pytest.raises(ConfigurationError, match="GROQ_API_KEY"):
        compatible("groq")
    with pytest.raises(ConfigurationError, match="needs a base_url"):
        compatible("snowflake", api_key=KEY)


def test_an_unknown_type_is_refused_with_the_nearest() -> None:
    """A typing error is found at once."""
    with pytest.raises(ConfigurationError, match="did you mean 'perplexity'"):
        compatible("perplexty", api_key=KEY)


def test_mistral_gets_no_field_that_it_would_refuse() -> None:
    """All of its quirks in one request."""
    _, _, body = build(
        compatible("mistral_openai", api_key=KEY),
        max_completion_tokens=9,
        seed=3,
        stream=True,
        stream_options={"include_usage": True},
        messages=[{"role": "developer", "content": "d"}],
    )
    assert {
        "model": "m",
        "messages": [{"role": "system", "content": "d"}],
        "max_tokens": 9,
        "random_seed": 3,
        "stream": True,
        "x_unknown": [1],
    } == body


def test_a_deployments_quirks_come_on_top() -> None:
    """One reasoning model of an account that has others too."""
    adapter = OpenAI(api_key=KEY)
    deployment = at(adapter, quirks=frozenset({"max_completion_tokens_only"}))
    request = adapter.translate("chat", {**CHAT, "max_tokens": 4}, deployment).request
    assert isinstance(request.body, bytes)
    assert 4 == json.loads(request.body)["max_completion_tokens"]


STREAMS = [
    ("azure", "azure_stream.sse", None),
    ("mistral_openai", "mistral_stream.sse", (7, 3)),
    ("openrouter", "openrouter_stream.sse", (7, 3)),
    ("writer", "writer_stream.sse", (7, 3)),
    ("openai", "openai_tools_stream.sse", (7, 3)),
]


def adapter_of(dialect: str) -> OpenAIFormat:
    if dialect == "openai":
        return OpenAI(api_key=KEY)
    return azure() if dialect == "azure" else compatible(dialect, api_key=KEY)


@pytest.mark.parametrize(("dialect", "name", "usage"), STREAMS)
def test_a_dialects_stream_passes_byte_by_byte_at_every_split(
    dialect: str, name: str, usage: tuple[int, int] | None, fixture_bytes: Callable[[str], bytes]
) -> None:
    """Cut in two anywhere, or into single bytes: the same bytes come out, counted as whole."""
    data = fixture_bytes(name)
    adapter = adapter_of(dialect)
    cuts = [[data[:at_], data[at_:]] for at_ in range(len(data) + 1)]
    for parts in [*cuts, [data[i : i + 1] for i in range(len(data))]]:
        decoder = decoder_of(adapter)
        out = b"".join(decoder.feed(part) for part in parts if part) + decoder.close()
        # After the end mark, the second half of a CRLF says nothing any more.
        assert data.rstrip(b"\r\n") == out.rstrip(b"\r\n")
        assert (None, True) == (decoder.error, decoder.done)
        read = decoder.usage
        assert usage == (None if read is None else (read.input_tokens, read.output_tokens))


@pytest.mark.parametrize(("dialect", "name", "usage"), STREAMS)
def test_a_dialects_stream_that_ends_early_never_shows_its_finish(
    dialect: str, name: str, usage: tuple[int, int] | None, fixture_bytes: Callable[[str], bytes]
) -> None:
    """Cut at any event before the finish, it ends in an error and without a finish reason."""
    data = fixture_bytes(name)
    finish = data.find(b'"finish_reason":"')
    last = len(data) - len(b"data: [DONE]\n\n") if finish < 0 else data.rfind(b"data:", 0, finish)
    adapter = adapter_of(dialect)
    for end in range(last + 1):
        decoder = decoder_of(adapter)
        out = decoder.feed(data[:end]) + decoder.close()
        assert decoder.error is not None
        assert not decoder.done
        assert b'"finish_reason":"' not in out
        assert b"data: [DONE]" not in out


def test_groqs_error_event_ends_the_stream_with_its_own_status(
    fixture_bytes: Callable[[str], bytes],
) -> None:
    """Content before it passes; then comes the mapped error and nothing else."""
    adapter = compatible("groq", api_key=KEY)
    decoder = decoder_of(adapter)
    out = decoder.feed(fixture_bytes("groq_error_stream.sse")) + decoder.close()
    assert 2 == out.count(b"data: ")
    assert decoder.error is not None
    assert (400, "tool_use_failed") == (decoder.error.status, decoder.error.code)


def test_a_stream_without_a_finish_reason_is_whole_only_where_that_is_known() -> None:
    """[DONE] alone finishes an OpenRouter stream and no OpenAI stream."""
    data = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
    for dialect, done in (("openrouter", True), ("openai", False)):
        adapter = adapter_of(dialect)
        decoder = decoder_of(adapter)
        decoder.feed(data + b"data: [DONE]\n\n")
        assert done is decoder.done


def test_an_unframed_end_without_done_is_whole_only_where_that_is_known() -> None:
    """A connection that just closes after the finish reason: fine for Writer, cut for OpenAI."""
    data = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    for dialect, done in (("writer", True), ("openai", False)):
        adapter = adapter_of(dialect)
        decoder = decoder_of(adapter)
        out = decoder.feed(data) + decoder.close(framed=False)
        assert (done, data if done else b"") == (decoder.done, out)
