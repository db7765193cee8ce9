"""Access tokens: Google's own library against a token endpoint on a real socket."""

from __future__ import annotations

import asyncio
import datetime
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import google.auth.credentials
import google.auth.jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from asgi_llm.errors import ConfigurationError, ProviderError
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.vertex import Vertex
from asgi_llm.testing import ManualClock, ReceivedRequest, Reply, Upstream, call, json_reply
from asgi_llm.transports.base import UpstreamRequest
from asgi_llm.types import Deployment

ServiceAccount = Callable[..., dict[str, Any]]

CHAT = {"model": "vertex/g", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = {
    "candidates": [{"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1},
}


class Google:
    """A token endpoint, and the API behind it.

    Args:
        life_seconds: Of each token.
    """

    def __init__(self, life_seconds: int = 3600) -> None:
        self.life_seconds = life_seconds
        self.assertions: list[str] = []
        self.calls: list[ReceivedRequest] = []
        self.failure: Reply | None = None

    def __call__(self, request: ReceivedRequest) -> Reply:
        if request.path != "/token":
            self.calls.append(request)
            return json_reply(ANSWER)
        form = parse_qs(request.body.decode())
        self.assertions.append(form["assertion"][0])
        if self.failure is not None:
            return self.failure
        token = f"ya29.{len(self.assertions)}"
        return json_reply({"access_token": token, "expires_in": self.life_seconds})


def request_of(vertex: Vertex) -> UpstreamRequest:
    return vertex.translate("chat", CHAT, Deployment(provider="vertex", model="g")).request


async def bearer(vertex: Vertex) -> bytes:
    async with asyncio.timeout(20):
        signed = await vertex.authorize(request_of(vertex))
    return dict(signed.headers)[b"authorization"]


async def test_a_service_account_is_served_by_the_app(
    service_account: ServiceAccount, private_key: rsa.RSAPrivateKey
) -> None:
    """Its key signs the request for a token, which serves all calls; its project is called."""
    google_ = Google()
    async with Upstream(google_) as upstream:
        vertex = Vertex(
            service_account_info=service_account(upstream.url + "/token"),
            location="europe-west4",
            base_url=upstream.url + "/v1",
        )
        app = ProviderApp([vertex])
        async with asyncio.timeout(30):
            found = await asyncio.gather(*(call(app, json=CHAT) for _ in range(10)))
        await app.aclose()
    assert {200} == {one.status for one in found}
    (assertion,) = google_.assertions
    pem = private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = google.auth.jwt.decode(assertion, certs=pem)  # type: ignore[no-untyped-call]
    assert "https://www.googleapis.com/auth/cloud-platform" == claims["scope"]
    assert "gateway@own-project.iam.gserviceaccount.com" == claims["iss"]
    path = "/v1/projects/own-project/locations/europe-west4/publishers/google/models/g"
    assert {(f"{path}:generateContent", b"Bearer ya29.1")} == {
        (one.target, one.header("authorization")) for one in google_.calls
    }


async def test_a_token_is_renewed_before_it_ends(service_account: ServiceAccount) -> None:
    """Five minutes before, once for all who ask at that moment."""
    google_ = Google()
    now = datetime.datetime.now(datetime.UTC).timestamp()
    moment = [now]
    async with Upstream(google_) as upstream:
        vertex = Vertex(
            service_account_info=service_account(upstream.url + "/token"),
            clock=lambda: moment[0],
        )
        assert b"Bearer ya29.1" == await bearer(vertex)
        moment[0] = now + 3600 - 310
        assert b"Bearer ya29.1" == await bearer(vertex)
        moment[0] = now + 3600 - 290
        found = await asyncio.gather(*(bearer(vertex) for _ in range(5)))
    assert ([b"Bearer ya29.2"] * 5, 2) == (found, len(google_.assertions))


async def test_a_renewal_that_fails_leaves_the_token_that_is_still_good(
    service_account: ServiceAccount,
) -> None:
    """It is tried again half a minute later; once the token has ended there is none."""
    google_ = Google()
    now = datetime.datetime.now(datetime.UTC).timestamp()
    moment = [now]
    async with Upstream(google_) as upstream:
        vertex = Vertex(
            service_account_info=service_account(upstream.url + "/token"),
            clock=lambda: moment[0],
        )
        await bearer(vertex)
        google_.failure = json_reply({"error": "invalid_grant"}, status=400)
        moment[0] = now + 3600 - 200
        assert b"Bearer ya29.1" == await bearer(vertex)
        moment[0] += 20
        assert b"Bearer ya29.1" == await bearer(vertex)
        assert 2 == len(google_.assertions)
        moment[0] += 20
        assert b"Bearer ya29.1" == await bearer(vertex)
        assert 3 == len(google_.assertions)
        moment[0] = now + 3600
        with pytest.raises(ProviderError) as caught:
            await bearer(vertex)
        assert (502, "provider_authentication_failed") == (caught.value.status, caught.value.code)
        assert "invalid_grant" not in caught.value.message
        google_.failure = None
        assert b"Bearer ya29.5" == await bearer(vertex)


async def test_a_token_that_the_api_does_not_take_is_not_used_again(
    service_account: ServiceAccount,
) -> None:
    """The next call has another one."""
    google_ = Google()
    async with Upstream(google_) as upstream:
        vertex = Vertex(service_account_info=service_account(upstream.url + "/token"))
        assert b"Bearer ya29.1" == await bearer(vertex)
        error = {"error": {"code": 401, "message": "expired", "status": "UNAUTHENTICATED"}}
        found = vertex.parse_error(401, [], json.dumps(error).encode())
        assert (502, "provider_authentication_failed") == (found.status, found.code)
        assert b"Bearer ya29.2" == await bearer(vertex)


async def test_a_token_endpoint_that_is_not_there_is_an_error_of_the_providers(
    service_account: ServiceAccount,
) -> None:
    """A refused connection is no crash; the address is not told."""
    async with Upstream() as upstream:
        gone = upstream.url
    vertex = Vertex(service_account_info=service_account(gone + "/token"))
    with pytest.raises(ProviderError) as caught:
        await bearer(vertex)
    assert (502, False) == (caught.value.status, "127.0.0.1" in caught.value.message)


async def test_a_key_whose_endpoint_is_a_file_opens_none(service_account: ServiceAccount) -> None:
    """Only the network is asked for tokens."""
    with pytest.raises(ProviderError) as caught:
        await bearer(Vertex(service_account_info=service_account(Path(__file__).as_uri())))
    assert 502 == caught.value.status


async def test_a_caller_that_leaves_takes_no_token_from_the_others() -> None:
    """The renewal goes on for those who wait."""
    asked, go = asyncio.Event(), asyncio.Event()

    async def fetch() -> str:
        asked.set()
        await go.wait()
        return "t"

    vertex = Vertex(project="p", token_provider=fetch)
    first = asyncio.create_task(bearer(vertex))
    async with asyncio.timeout(10):
        await asked.wait()
        second = asyncio.create_task(bearer(vertex))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go.set()
        assert b"Bearer t" == await second


async def test_a_token_provider_may_block_and_say_when_its_token_ends() -> None:
    """A plain function runs in a thread; without an end its token is kept for five minutes."""
    clock = ManualClock(1000.0)
    threads: list[bool] = []

    def timed() -> tuple[str, float]:
        threads.append(threading.current_thread() is threading.main_thread())
        return f"t{len(threads)}", clock() + 1000

    vertex = Vertex(project="p", token_provider=timed, clock=clock)
    assert b"Bearer t1" == await bearer(vertex)
    clock.advance(690)
    assert b"Bearer t1" == await bearer(vertex)
    clock.advance(20)
    assert b"Bearer t2" == await bearer(vertex)
    assert [False, False] == threads

    count = [0]

    async def plain() -> str:
        count[0] += 1
        return f"p{count[0]}"

    vertex = Vertex(project="p", token_provider=lambda: plain(), clock=clock)
    assert b"Bearer p1" == await bearer(vertex)
    clock.advance(299)
    assert b"Bearer p1" == await bearer(vertex)
    clock.advance(2)
    assert b"Bearer p2" == await bearer(vertex)


async def test_a_token_of_a_short_life_is_used_for_half_of_it() -> None:
    """Not fetched anew for every call."""
    clock = ManualClock(0.0)
    count = [0]

    async def short() -> tuple[str, float]:
        count[0] += 1
        return f"t{count[0]}", clock() + 60

    vertex = Vertex(project="p", token_provider=short, clock=clock)
    assert b"Bearer t1" == await bearer(vertex)
    clock.advance(29)
    assert b"Bearer t1" == await bearer(vertex)
    clock.advance(2)
    assert b"Bearer t2" == await bearer(vertex)


@pytest.mark.parametrize("given", ["", None, "two\r\nlines", 5])
async def test_what_is_no_token_is_never_sent(given: Any) -> None:
    """It could be a header of its own."""
    vertex = Vertex(project="p", token_provider=lambda: given)
    with pytest.raises(ProviderError) as caught:
        await bearer(vertex)
    assert (502, "provider_authentication_failed") == (caught.value.status, caught.value.code)


class Own(google.auth.credentials.Scoped, google.auth.credentials.Credentials):
    """Credentials of another kind, which have to be told their scope."""

    def __init__(self, scopes: Any = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._scopes = scopes
        self._quota_project_id = "who-pays"

    @property
    def requires_scopes(self) -> bool:
        return self._scopes is None

    def with_scopes(self, scopes: Any, default_scopes: Any = None) -> Own:
        return Own(scopes)

    def refresh(self, request: Any) -> None:
        self.token = " ".join(self._scopes or ()).rpartition("/")[2]
        self.expiry = datetime.datetime(2100, 1, 1)


async def test_credentials_of_googles_library_are_told_their_scope() -> None:
    """And who pays, where that is another project."""
    vertex = Vertex(project="p", credentials=Own())
    async with asyncio.timeout(10):
        signed = await vertex.authorize(request_of(vertex))
    headers = dict(signed.headers)
    assert (b"Bearer cloud-platform", b"who-pays") == (
        headers[b"authorization"],
        headers[b"x-goog-user-project"],
    )


async def test_credentials_that_name_no_project_need_one() -> None:
    """The call would have no address."""
    with pytest.raises(ProviderError) as caught:
        await bearer(Vertex(credentials=Own()))
    assert (502, "provider_authentication_failed") == (caught.value.status, caught.value.code)


async def test_a_key_may_be_in_a_file(service_account: ServiceAccount, tmp_path: Path) -> None:
    """As Google gives it out."""
    file = tmp_path / "key.json"
    google_ = Google()
    async with Upstream(google_) as upstream:
        file.write_text(json.dumps(service_account(upstream.url + "/token")))
        assert b"Bearer ya29.1" == await bearer(Vertex(service_account_file=file))


async def test_without_any_the_applications_default_credentials_are_used(
    service_account: ServiceAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked for when the first token is needed; where there are none the call has an error."""
    file = tmp_path / "key.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    vertex = Vertex()
    with pytest.raises(ProviderError) as caught:
        await bearer(vertex)
    assert (502, "provider_authentication_failed") == (caught.value.status, caught.value.code)
    google_ = Google()
    async with Upstream(google_) as upstream:
        file.write_text(json.dumps(service_account(upstream.url + "/token")))
        async with asyncio.timeout(20):
            signed = await vertex.authorize(request_of(vertex))
    assert b"Bearer ya29.1" == dict(signed.headers)[b"authorization"]
    assert "/projects/own-project/locations/global/" in signed.url


@pytest.mark.parametrize(
    "change",
    [{"private_key": "-----BEGIN SECRET"}, {"client_email": None}, {"type": "external_account"}],
)
def test_a_key_that_cannot_be_used_is_refused_without_showing_it(
    service_account: ServiceAccount, tmp_path: Path, change: dict[str, Any]
) -> None:
    """Given as a mapping or as a file; other kinds of accounts could call any address."""
    info = {
        name: value
        for name, value in service_account("https://a.example", **change).items()
        if value is not None
    }
    file = tmp_path / "key.json"
    file.write_text(json.dumps(info))
    for options in ({"service_account_info": info}, {"service_account_file": file}):
        with pytest.raises(ConfigurationError) as caught:
            Vertex(**options)
        assert (*options,) == (caught.value.param,)
        assert "BEGIN" not in str(caught.value)


def test_a_file_that_is_no_json_is_refused_without_showing_it(tmp_path: Path) -> None:
    """By its option."""
    file = tmp_path / "key.json"
    file.write_text("-----BEGIN SECRET")
    with pytest.raises(ConfigurationError) as caught:
        Vertex(service_account_file=file)
    assert ("service_account_file", False) == (caught.value.param, "BEGIN" in str(caught.value))


def test_without_googles_library_the_message_holds_the_command() -> None:
    """And a token provider or a key needs none."""
    code = (
        "import sys\n"
        "sys.modules['google.auth'] = None\n"
        "from asgi_llm.errors import ConfigurationError\n"
        "from asgi_llm.providers.vertex import Vertex\n"
        "Vertex(project='p', token_provider=lambda: 't')\n"
        "Vertex(api_key='k')\n"
        "try:\n"
        "    Vertex(project='p')\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "pip install 'asgi-llm[vertex]'" in done.stdout
