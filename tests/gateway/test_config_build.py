"""What a configuration says is what the gateway does, up to the wire."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._provider_definitions import (
    PROVIDERS,
    LiteLLMDefinition,
    LocalEmbeddingsDefinition,
    NativeDefinition,
)
from asgi_llm.gateway.build import load_gateway
from asgi_llm.providers.capabilities import PROVIDER_TYPES
from asgi_llm.testing import Recorder, Upstream, Wait, call, chat_answer, http_scope, json_reply

QUESTION = [{"role": "user", "content": "Hello"}]


async def ask(mapping: dict[str, Any], model: str, **scope: Any) -> Recorder:
    """One chat completion through the gateway that ``mapping`` describes."""
    gateway = load_gateway(mapping)
    async with gateway.lifespan():
        document = {"model": model, "messages": QUESTION}
        return await call(gateway, http_scope(**scope), json=document)


def content(answer: Recorder) -> str:
    """The text of a chat completion."""
    return str(json.loads(answer.body)["choices"][0]["message"]["content"])


def code(answer: Recorder) -> str:
    """The code of an error."""
    return str(json.loads(answer.body)["error"]["code"])


@asynccontextmanager
async def answering() -> AsyncIterator[Upstream]:
    """An upstream that answers every question."""
    async with Upstream() as upstream:
        upstream.script(json_reply(chat_answer("from upstream")))
        yield upstream


async def test_a_mapping_makes_a_gateway() -> None:
    """Aliases and provider/model both lead to the provider; other names do not."""
    mapping = {
        "providers": {"e": {"type": "echo"}},
        "models": {"fast": {"targets": [{"provider": "e", "model": "echo"}]}},
    }
    assert content(await ask(mapping, "fast")) == "Hello"
    assert content(await ask(mapping, "e/echo")) == "Hello"
    assert (await ask(mapping, "slow")).status == 404


async def test_an_alias_calls_its_first_target() -> None:
    """The others wait for a router."""
    async with answering() as upstream:
        mapping = {
            "providers": {
                "up": {"type": "openai", "base_url": f"{upstream.url}/v1"},
                "e": {"type": "echo"},
            },
            "models": {
                "a": {
                    "targets": [
                        {"provider": "up", "model": "m", "quirks": ["developer_as_system"]},
                        {"provider": "e", "model": "echo", "weight": 99},
                    ]
                }
            },
        }
        assert content(await ask(mapping, "a")) == "from upstream"
        assert upstream.ledger[0].request.json()["model"] == "m"


async def test_key_headers_and_account_are_sent() -> None:
    """The secrets of the configuration reach the upstream, and only it."""
    async with answering() as upstream:
        mapping = {
            "providers": {
                "up": {
                    "type": "openai",
                    "base_url": f"{upstream.url}/v1",
                    "api_key": "sk-1",
                    "organization": "org-1",
                    "project": "p-1",
                    "headers": {"X-Tenant": "t-1"},
                }
            }
        }
        answer = await ask(mapping, "up/m")
        sent = dict(upstream.ledger[0].request.headers)
        names = (b"authorization", b"openai-organization", b"openai-project", b"x-tenant")
        assert [sent[name] for name in names] == [b"Bearer sk-1", b"org-1", b"p-1", b"t-1"]
        assert b"sk-1" not in answer.body
        assert b"sk-1" not in b"".join(value for _, value in answer.headers)


async def test_azure_and_compatible_endpoints_are_built() -> None:
    """Each type has its own URLs."""
    async with answering() as upstream:
        mapping = {
            "providers": {
                "az": {
                    "type": "azure",
                    "endpoint": upstream.url,
                    "api_version": "2024-10-21",
                    "api_key": "k",
                    "deployments": {"gpt": "my-gpt"},
                },
                "lab": {"type": "vllm", "base_url": f"{upstream.url}/lab/v1"},
            }
        }
        assert (await ask(mapping, "az/gpt")).status == 200
        assert (await ask(mapping, "lab/qwen")).status == 200
        assert [row.request.target for row in upstream.ledger] == [
            "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21",
            "/lab/v1/chat/completions",
        ]


CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "from Claude"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 2},
}


async def test_a_provider_with_a_format_of_its_own_is_built_with_its_options() -> None:
    """Key, headers and options reach the wire, and its answers come back in OpenAI's format."""
    async with Upstream() as upstream:
        upstream.script(json_reply(CLAUDE))
        mapping = {
            "providers": {
                "claude": {
                    "type": "anthropic",
                    "base_url": upstream.url,
                    "api_key": "sk-1",
                    "headers": {"X-Tenant": "t-1"},
                    "betas": ["b-1", "b-2"],
                    "default_max_tokens": 77,
                }
            }
        }
        assert content(await ask(mapping, "claude/m")) == "from Claude"
        request = upstream.ledger[0].request
        sent = dict(request.headers)
        assert request.target == "/v1/messages"
        names = (b"x-api-key", b"anthropic-beta", b"x-tenant")
        assert [sent[name] for name in names] == [b"sk-1", b"b-1,b-2", b"t-1"]
        assert (request.json()["model"], request.json()["max_tokens"]) == ("m", 77)


@pytest.mark.parametrize("where", ["provider", "target"])
async def test_strict_holds_for_a_provider_or_for_one_target(where: str) -> None:
    """What a translation would lose is a 400 there, and a header elsewhere."""
    async with Upstream() as upstream:
        upstream.script(json_reply(CLAUDE))
        common = {"type": "anthropic", "base_url": upstream.url, "api_key": "k"}
        mapping: dict[str, Any] = {
            "providers": {
                "open": common,
                "closed": {**common, "strict": where == "provider"},
            },
            "models": {
                "closed": {
                    "targets": [{"provider": "closed", "model": "m", "strict": where == "target"}]
                }
            },
        }
        gateway = load_gateway(mapping)
        async with gateway.lifespan():
            document = {"messages": QUESTION, "seed": 7}
            kept = await call(gateway, json={**document, "model": "open/m"})
            refused = await call(gateway, json={**document, "model": "closed"})
        assert (kept.status, kept.header("x-translation-loss")) == (200, b"seed")
        error = json.loads(refused.body)["error"]
        assert (refused.status, error["param"], error["code"]) == (400, "seed", "unsupported_field")
        assert len(upstream.ledger) == 1


@pytest.mark.parametrize(
    ("section", "code_", "message"),
    [
        ({}, "unsupported_content_part", ""),
        ({"enabled": False, "max_images": 1}, "unsupported_content_part", ""),
        ({"enabled": True}, "image_fetch_failed", "nothing could be fetched from this URL"),
        (
            {"enabled": True, "max_images": 1},
            "image_fetch_failed",
            "a request may have 1 of these",
        ),
    ],
)
async def test_images_by_url_are_fetched_where_that_is_turned_on(
    section: dict[str, Any], code_: str, message: str
) -> None:
    """Otherwise they are refused; an address of the gateway's own network always is."""
    gateway = load_gateway(
        {"server": {"fetch_images": section}, "providers": {"box": {"type": "ollama"}}}
    )
    part = {"type": "image_url", "image_url": {"url": "https://127.0.0.1/a.png"}}
    messages = [{"role": "user", "content": [part, part]}]
    async with gateway.lifespan():
        answer = await call(gateway, json={"model": "box/m", "messages": messages})
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"]) == (400, code_)
    assert message in error["message"]


def is_option_of(adapter: Any, option: str) -> bool:
    return option in inspect.signature(adapter).parameters


IMPORTED = [
    name
    for name, definition in PROVIDERS.items()
    if issubclass(definition, NativeDefinition | LiteLLMDefinition | LocalEmbeddingsDefinition)
]


@pytest.mark.parametrize("type_name", IMPORTED)
def test_the_keys_of_a_type_are_options_of_its_adapter(type_name: str) -> None:
    """Under the same names, so that nothing in between can mix them up."""
    module, _, attribute = PROVIDER_TYPES[type_name].adapter.partition(":")
    adapter = getattr(importlib.import_module(module), attribute)
    keys = set(PROVIDERS[type_name].__struct_fields__) - {"type", "proxy", "ca_file"}
    assert [key for key in sorted(keys) if not is_option_of(adapter, key)] == []


@pytest.mark.parametrize(
    ("vertex", "expected"),
    [
        (
            {"project": "p", "api_key": "k"},
            "providers.v.api_key: an api_key stands for a project and has no location",
        ),
        (
            {"service_account_file": "f", "api_key": "k"},
            "providers.v.api_key: give one of service_account_file and api_key, not both",
        ),
    ],
)
def test_what_an_adapter_refuses_has_the_place_of_its_key(
    vertex: dict[str, str], expected: str
) -> None:
    """What goes together is for the adapter to say; where it was written, for the gateway."""
    mapping = {"providers": {"v": {"type": "vertex", **vertex}}}
    with pytest.raises(ConfigurationError) as caught:
        load_gateway(mapping)
    assert expected == caught.value.message


def test_express_mode_needs_no_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """A project in the environment is for other tools, where a key stands for one."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    load_gateway({"providers": {"v": {"type": "vertex", "api_key": "k"}}})


def test_only_what_is_configured_is_imported() -> None:
    """An adapter, and the package that it needs, cost nothing to those who do not use it."""
    code = (
        "import sys; from asgi_llm.gateway.build import load_gateway; "
        "load_gateway({'providers': {'e': {'type': 'echo'}, 'o': {'type': 'ollama'}}}); "
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    modules = {
        PROVIDER_TYPES[name].adapter.partition(":")[0] for name in IMPORTED if name != "ollama"
    }
    assert "asgi_llm.providers.ollama" in loaded
    assert loaded & (modules | {"botocore", "google.auth", "litellm"}) == set()


@pytest.mark.parametrize("where", ["server", "provider"])
async def test_deadlines_hold_for_all_or_for_one(where: str) -> None:
    """A provider's own deadline goes before the server's, which goes before the default."""
    async with Upstream() as upstream:
        upstream.script(json_reply(chat_answer(), before=[Wait(asyncio.Event())]))
        provider: dict[str, Any] = {"type": "openai", "base_url": f"{upstream.url}/v1"}
        deadline = {"first_byte_seconds": 0.1}
        mapping: dict[str, Any] = {"providers": {"up": provider}}
        if where == "provider":
            provider["timeouts"] = deadline
            mapping["server"] = {"timeouts": {"first_byte_seconds": None}}
        else:
            mapping["server"] = {"timeouts": deadline}
        answer = await ask(mapping, "up/m")
        assert (answer.status, code(answer)) == (504, "provider_timeout")


async def test_a_proxy_gets_the_call() -> None:
    """The upstream is asked for through the proxy, whose credentials are the proxy's alone."""
    async with answering() as proxy:
        mapping = {
            "providers": {
                "up": {
                    "type": "openai",
                    "base_url": "http://upstream.invalid/v1",
                    "proxy": proxy.url.replace("://", "://user:word@"),
                }
            }
        }
        assert content(await ask(mapping, "up/m")) == "from upstream"
        request = proxy.ledger[0].request
        assert request.target == "http://upstream.invalid/v1/chat/completions"


async def test_an_authority_of_ones_own_is_trusted(tmp_path: Path) -> None:
    """With its file the call works; without it the certificate is refused."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    async with Upstream(ssl_context=context) as upstream:
        upstream.script(json_reply(chat_answer("trusted")))
        provider = {"type": "openai", "base_url": f"{upstream.url}/v1"}
        known = await ask({"providers": {"up": {**provider, "ca_file": file}}}, "up/m")
        unknown = await ask({"providers": {"up": provider}}, "up/m")
        assert (content(known), unknown.status) == ("trusted", 502)


async def test_connections_end_with_the_gateway() -> None:
    """Pools of the gateway's own making are closed when its lifespan ends."""
    async with answering() as upstream:
        provider = {"type": "openai", "base_url": f"{upstream.url}/v1"}
        gateway = load_gateway(
            {
                "providers": {
                    "common": provider,
                    "timed": {**provider, "timeouts": {"total_seconds": 9}},
                }
            }
        )
        async with gateway.lifespan():
            for model in ("common/m", "timed/m"):
                answer = await call(gateway, json={"model": model, "messages": QUESTION})
                assert answer.status == 200
            # One pool for both: the second call took the first one's connection.
            assert (upstream.connections, upstream.open_connections) == (1, 1)
        await upstream.until(lambda: upstream.open_connections == 0)


async def test_limits_reach_the_app() -> None:
    """A body over server.max_body_bytes is refused."""
    mapping = {"providers": {"e": {"type": "echo"}}, "server": {"max_body_bytes": 10}}
    answer = await ask(mapping, "e/echo")
    assert (answer.status, code(answer)) == (413, "request_too_large")


async def test_layers_are_there_or_not(caplog: pytest.LogCaptureFixture) -> None:
    """CORS answers where it is configured; the log line comes with the access log only."""
    caplog.set_level(logging.INFO, "asgi_llm.access")
    origin = [(b"origin", b"https://app.example.com")]
    provider: dict[str, Any] = {"providers": {"e": {"type": "echo"}}}
    cors = {"cors": {"allow_origins": ["https://app.example.com"]}}
    answer = await ask({**provider, "stack": [cors]}, "e/echo", headers=origin)
    assert answer.header("access-control-allow-origin") == b"https://app.example.com"
    assert caplog.records == []
    answer = await ask({**provider, "stack": ["access_log"]}, "e/echo", headers=origin)
    assert answer.header("access-control-allow-origin") is None
    assert len(caplog.records) == 1
    await ask(provider, "e/echo")
    assert len(caplog.records) == 2


@pytest.mark.parametrize(("docs", "status"), [(True, 200), (False, 404)])
async def test_the_docs_can_be_left_out(docs: bool, status: int) -> None:
    """server.docs decides on /docs; health is always there."""
    mapping = {"providers": {"e": {"type": "echo"}}, "server": {"docs": docs}}
    gateway = load_gateway(mapping)
    page = await call(gateway, http_scope(method="GET", path="/docs"))
    health = await call(gateway, http_scope(method="GET", path="/health"))
    assert (page.status, health.status) == (status, 200)


def test_a_mapping_with_a_mistake_has_a_path() -> None:
    """What an adapter refuses is told with its key path, as what the definitions refuse."""
    with pytest.raises(ConfigurationError) as caught:
        load_gateway({"providers": {"v": {"type": "vllm", "headers": {"Host": "x"}}}})
    assert caught.value.message == "providers.v.headers: 'Host' is set by the transport"
    assert caught.value.param == "providers.v.headers"
