"""Credentials and signatures, checked against botocore's own signing of the same call."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import threading
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError, ProviderError
from asgi_llm.providers._bedrock_signing import Keys, Signer
from asgi_llm.providers.bedrock import Bedrock
from asgi_llm.transports.base import UpstreamRequest
from asgi_llm.types import Deployment

# It has no types.
_auth: Any = importlib.import_module("botocore.auth")
_awsrequest: Any = importlib.import_module("botocore.awsrequest")
_credentials: Any = importlib.import_module("botocore.credentials")

ID, SECRET, TOKEN = "AKIDEXAMPLE0123456", "wJalrXUtnFEMIsecret+/key", "session/token=="
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
KEYS: dict[str, Any] = {"access_key_id": ID, "secret_access_key": SECRET}
DOCUMENT = {"model": "x", "messages": [{"role": "user", "content": "Grüße"}]}


def call(adapter: Bedrock, model: str = "vendor.m-v1:0") -> UpstreamRequest:
    return adapter.translate("chat", DOCUMENT, Deployment(provider="bedrock", model=model)).request


def header(request: UpstreamRequest, name: bytes) -> str | None:
    values = [value.decode() for field, value in request.headers if field == name]
    assert len(values) <= 1
    return values[0] if values else None


def signed_by_botocore(request: UpstreamRequest, token: str | None, region: str) -> str:
    """The authorization that botocore itself makes, by the steps of its ``add_auth``."""
    headers = {"content-type": "application/json"} if request.body else {}
    theirs = _awsrequest.AWSRequest(
        method=request.method, url=request.url, data=request.body, headers=headers
    )
    keys = _credentials.Credentials(ID, SECRET, token)
    signer = _auth.SigV4Auth(keys, "bedrock", region)
    theirs.context["timestamp"] = header(request, b"x-amz-date")
    signer._modify_request_before_signing(theirs)
    text = signer.string_to_sign(theirs, signer.canonical_request(theirs))
    signer._inject_signature_to_request(theirs, signer.signature(text, theirs))
    return str(theirs.headers["Authorization"])


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("model", ["vendor.m-v1:0", ARN])
@pytest.mark.parametrize("root", [None, "http://127.0.0.1:8123/behind/a/proxy"])
async def test_a_signature_is_botocores(token: str | None, model: str, root: str | None) -> None:
    """For names that have to be escaped, ports, paths and temporary keys."""
    adapter = Bedrock(region="eu-west-1", base_url=root, session_token=token, **KEYS)
    request = call(adapter, model)
    signed = await adapter.authorize(request)
    assert signed_by_botocore(signed, token, "eu-west-1") == header(signed, b"authorization")
    assert token == header(signed, b"x-amz-security-token")
    assert (request.url, request.method) == (signed.url, signed.method)
    assert signed.body is request.body


async def test_a_signature_has_the_clocks_time() -> None:
    """And the same one signs the list of models, at its own host."""
    adapter = Bedrock(region="us-east-1", clock=lambda: 1_440_938_160.0, **KEYS)
    assert "20150830T123600Z" == header(await adapter.authorize(call(adapter)), b"x-amz-date")
    listing = adapter.build_models_request()
    assert listing is not None
    signed = await adapter.authorize(listing)
    assert "https://bedrock.us-east-1.amazonaws.com/foundation-models" == signed.url
    assert signed_by_botocore(signed, None, "us-east-1") == header(signed, b"authorization")


async def test_botocore_signs_the_same_by_itself() -> None:
    """With its own entry point, within the same second."""
    adapter = Bedrock(region="us-east-1", **KEYS)
    request = call(adapter)
    for _ in range(10):
        signed = await adapter.authorize(request)
        theirs = _awsrequest.AWSRequest(
            method="POST",
            url=request.url,
            data=request.body,
            headers={"content-type": "application/json"},
        )
        keys = _credentials.Credentials(ID, SECRET)
        _auth.SigV4Auth(keys, "bedrock", "us-east-1").add_auth(theirs)
        if theirs.headers["X-Amz-Date"] == header(signed, b"x-amz-date"):
            assert theirs.headers["Authorization"] == header(signed, b"authorization")
            return
    pytest.fail("the clock went on between all of ten pairs of signatures")


async def test_a_large_body_is_signed_off_the_loop() -> None:
    """Hashing it would stall other requests; the signature is the same."""
    threads: list[int] = []

    def clock() -> float:
        threads.append(threading.get_ident())
        return 1_700_000_000.0

    async def source() -> Keys:
        return Keys(ID, SECRET)

    signer = Signer(source, "us-east-1", clock)
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse"
    headers = ((b"content-type", b"application/json"),)
    for body, is_elsewhere in ((b"x" * 1000, False), (b"x" * 1_000_000, True)):
        signed = await signer.signed(UpstreamRequest("POST", url, headers, body))
        assert is_elsewhere is (threads[-1] != threading.get_ident())
        assert signed_by_botocore(signed, None, "us-east-1") == header(signed, b"authorization")


async def test_an_api_key_is_a_bearer_token() -> None:
    """And nothing is signed."""
    adapter = Bedrock(region="us-east-1", api_key="bedrock-api-key-1")
    request = call(adapter)
    assert await adapter.authorize(request) is request
    assert "Bearer bedrock-api-key-1" == header(request, b"authorization")


# Where AWS's tools look


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An AWS configuration of the test's own, and no service to ask for credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


async def test_credentials_are_found_where_aws_tools_look(
    aws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the environment, and in the files of a profile."""
    text = f"[work]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n"
    (aws / "credentials").write_text(text)
    adapter = Bedrock(region="us-east-1", profile="work")
    signed = await adapter.authorize(call(adapter))
    assert signed_by_botocore(signed, None, "us-east-1") == header(signed, b"authorization")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    adapter = Bedrock(region="us-east-1")
    signed = await adapter.authorize(call(adapter))
    assert signed_by_botocore(signed, TOKEN, "us-east-1") == header(signed, b"authorization")


@pytest.mark.usefixtures("aws")
async def test_without_credentials_a_call_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """Of the gateway's, once a call is made: they may come later."""
    adapter = Bedrock(region="us-east-1")
    with pytest.raises(ProviderError) as caught:
        await adapter.authorize(call(adapter))
    assert (502, "provider_authentication_failed") == (caught.value.status, caught.value.code)
    assert "Credentials for AWS could not be had: NoCredentialsError" in caplog.text


@pytest.mark.usefixtures("aws")
def test_a_profile_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is configured, and not at the first call."""
    with pytest.raises(ConfigurationError) as caught:
        Bedrock(region="us-east-1", profile="nobody")
    assert ("profile", "profile is not in AWS's files") == (
        caught.value.param,
        caught.value.message,
    )
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigurationError, match="AWS_PROFILE"):
        Bedrock(region="us-east-1")


def test_files_of_aws_that_cannot_be_read_are_refused(aws: Path) -> None:
    """Where it is configured, too; no line of them is repeated."""
    (aws / "config").write_text(f"[default\naws_secret_access_key = {SECRET}\n")
    with pytest.raises(ConfigurationError) as caught:
        Bedrock(region="us-east-1")
    assert "AWS's configuration cannot be read" == caught.value.message
    assert SECRET not in "".join(traceback.format_exception(caught.value))


async def test_a_body_in_pieces_cannot_be_signed() -> None:
    """Nothing is sent that was not hashed."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"

    async def source() -> Keys:
        return Keys(ID, SECRET)

    signer = Signer(source, "us-east-1", lambda: 0.0)
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse"
    with pytest.raises(TypeError):
        await signer.signed(UpstreamRequest("POST", url, (), pieces()))


async def test_credentials_are_fetched_once_for_all_who_wait() -> None:
    """In a while again, and at once when AWS did not take them."""
    moment = [1_700_000_000.0]
    fetched: list[int] = []

    async def source() -> Keys:
        fetched.append(1)
        await asyncio.sleep(0)
        return Keys(ID, SECRET)

    signer = Signer(source, "us-east-1", lambda: moment[0])
    request = UpstreamRequest("GET", "https://bedrock.us-east-1.amazonaws.com/x", ())
    await asyncio.gather(*(signer.signed(request) for _ in range(5)))
    moment[0] += 299
    await signer.signed(request)
    assert 1 == len(fetched)
    moment[0] += 2
    await signer.signed(request)
    assert 2 == len(fetched)
    signer.forget()
    await signer.signed(request)
    assert 3 == len(fetched)


@pytest.mark.usefixtures("aws")
async def test_credentials_that_aws_refuses_are_looked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of a session may have ended."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    adapter = Bedrock(region="us-east-1")
    await adapter.authorize(call(adapter))
    assert {ID, SECRET} == set(adapter._all_secrets())
    body = json.dumps({"message": "The security token included in the request is expired"})
    error = adapter.parse_error(
        403, [(b"x-amzn-errortype", b"ExpiredTokenException:")], body.encode()
    )
    assert (502, "provider_authentication_failed") == (error.status, error.code)
    assert () == adapter._all_secrets()


# Nothing of them is shown


async def test_no_error_shows_a_credential(caplog: pytest.LogCaptureFixture) -> None:
    """Nor a text of an object, nor the debug log."""
    adapter = Bedrock(region="us-east-1", session_token=TOKEN, **KEYS)
    with caplog.at_level(logging.DEBUG):
        signed = await adapter.authorize(call(adapter))
    told = json.dumps({"message": f"no: {ID} {SECRET} {TOKEN}"}).encode()
    errors = [adapter.parse_error(status, [], told) for status in (400, 403, 429, 500)]
    errors.append(adapter._exception("validationException", told))
    shown = [repr(adapter), repr(adapter._signer), repr(Keys(ID, SECRET, TOKEN)), caplog.text]
    shown += ["".join(traceback.format_exception(error)) for error in errors]
    assert [] == [text for text in shown for secret in (ID, SECRET, TOKEN) if secret in text]
    assert SECRET not in repr(signed)
