"""Tokens: whom they stand for, and everything that must not pass for one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from asgi_llm.errors import AuthenticationError, ConfigurationError, StoreError
from asgi_llm.middleware._fetch import HttpFetch
from asgi_llm.middleware.auth import AuthMiddleware, JWTVerifier
from asgi_llm.stores.keys_memory import MemoryKeys
from asgi_llm.testing import ManualClock, Upstream, json_reply, raw_reply
from asgi_llm.transports.http1 import Http1Transport
from asgi_llm.types import Principal
from tests.middleware.auth.probes import CALLER, KEY, Inside, ask, bearer, code

ISSUER = "https://login.example.com/tenant"
AUDIENCE = "llm"
NOW = 1_800_000_000.0
RSA = RSAKey.generate_key(2048, {"kid": "r1"})
RSA_2 = RSAKey.generate_key(2048, {"kid": "r2"})
EC = ECKey.generate_key("P-256", {"kid": "e1"})
EC_384 = ECKey.generate_key("P-384", {"kid": "e3"})
ED = OKPKey.generate_key("Ed25519", {"kid": "o1"})
SECRET = "a-shared-secret-of-more-than-32-bytes"
JWKS = {"keys": [key.as_dict(private=False) for key in (RSA, EC)]}


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims; None takes one out."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 600, **changes}
    return {name: value for name, value in good.items() if value is not None}


def token(key: Any = RSA, alg: str = "RS256", header: Any = None, **changes: Any) -> str:
    """A signed token."""
    head = {"alg": alg, **({"kid": key.kid} if header is None else header)}
    payload = msgspec.json.encode(claims(**changes))
    registry = jws.JWSRegistry(algorithms=[alg], strict_check_header=False)
    return jws.serialize_compact(head, payload, key, registry=registry)


def verifier(**options: Any) -> JWTVerifier:
    """One that knows the two keys of the issuer, at a time that stands still."""
    given = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": JWKS, **options}
    return JWTVerifier(**{"wall_clock": lambda: NOW, "clock": ManualClock(), **given})


async def verified(one: JWTVerifier, text: str | bytes) -> Principal:
    encoded = text.encode() if isinstance(text, str) else text
    return await one.verify(encoded, hashlib.sha256(encoded).digest())


async def refused(one: JWTVerifier, text: str | bytes) -> str | None:
    with pytest.raises(AuthenticationError) as raised:
        await verified(one, text)
    assert 401 == raised.value.status
    return raised.value.code


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(header: Mapping[str, Any], signature: bytes = b"", **changes: Any) -> str:
    parts = (msgspec.json.encode(header), msgspec.json.encode(claims(**changes)), signature)
    return ".".join(map(encoded, parts))


@pytest.mark.parametrize(
    ("key", "alg", "options"),
    [
        (RSA, "RS256", {}),
        (EC, "ES256", {}),
        (RSA, "PS512", {"algorithms": ["PS512"]}),
        (RSA, "RS384", {"algorithms": ["RS384"], "jwks": None, "key": RSA.as_pem(private=False)}),
        (EC_384, "ES384", {"algorithms": ["RS256", "ES384"], "jwks": None,
                           "key": EC_384.as_pem(private=False).decode()}),
        (ED, "Ed25519", {"algorithms": ["Ed25519"], "jwks": None,
                         "key": ED.as_dict(private=False)}),
        (OctKey.import_key(SECRET, {"kid": "s"}), "HS256",
         {"algorithms": ["HS256", "HS512"], "jwks": None, "key": SECRET}),
    ],
)  # fmt: skip
async def test_good_tokens(key: Any, alg: str, options: dict[str, Any]) -> None:
    """Each kind of key verifies its own, with a key id and, where only one fits, without."""
    one = verifier(**options)
    assert Principal(user_id="ada") == await verified(one, token(key, alg))
    assert Principal(user_id="ada") == await verified(one, token(key, alg, header={}))


WRONG_CLAIMS: list[dict[str, Any]] = [
    {"iss": None},
    {"iss": ISSUER + "/"},
    {"iss": ISSUER.upper()},
    {"iss": [ISSUER]},
    {"aud": None},
    {"aud": "other"},
    {"aud": ["other", "LLM"]},
    {"aud": []},
    {"aud": [[AUDIENCE]]},
    {"aud": {"llm": 1}},
    {"aud": AUDIENCE + " "},
    {"exp": None},
    {"exp": "1900000000"},
    {"exp": True},
    {"exp": -1},
    {"exp": 1e300},
    {"exp": [NOW + 600]},
    {"nbf": NOW + 31},
    {"nbf": "0"},
    {"iat": NOW + 31},
    {"sub": None},
    {"sub": ""},
    {"sub": ["ada"]},
    {"sub": {"$ne": None}},
    {"sub": True},
    {"sub": "x" * 600},
]


@pytest.mark.parametrize("wrong", WRONG_CLAIMS, ids=str)
async def test_issue_20500_wrong_claims(wrong: dict[str, Any]) -> None:
    """A good signature under claims that do not hold, or are no claims, is worth nothing."""
    one = verifier()
    assert "invalid_api_key" == await refused(one, token(**wrong))
    assert Principal(user_id="ada") == await verified(one, token())


async def test_claims_that_hold() -> None:
    """One of several audiences, times within the leeway, a number for an id."""
    one = verifier(audience=["a", AUDIENCE])
    assert await verified(one, token(aud=["b", AUDIENCE]))
    assert await verified(one, token(nbf=NOW + 30, iat=NOW + 29.5, exp=int(NOW) - 29))
    assert Principal(user_id="7") == await verified(one, token(sub=7))


async def test_issue_20500_wrong_signatures() -> None:
    """Whatever is signed with nothing, with another key or another algorithm is refused."""
    public = RSA.as_pem(private=False)
    signed = unsigned({"alg": "HS256", "kid": "r1"}).rpartition(".")[0]
    confused = hmac.new(public, signed.encode(), hashlib.sha256).digest()
    good = token()
    head, body, signature = good.split(".")
    other = encoded(msgspec.json.encode(claims(sub="eve")))
    wrong = [
        unsigned({"alg": "none"}),
        unsigned({"alg": "None", "kid": "r1"}, b"x"),
        unsigned({"alg": "", "kid": "r1"}),
        unsigned({"kid": "r1"}),
        unsigned({"alg": None}),
        unsigned({"alg": "RS256", "kid": "r1"}),
        unsigned({"alg": "RS256", "kid": "r1"}, b"\0" * 256),
        unsigned({"alg": "ES256", "kid": "e1"}, b"\0" * 64),
        unsigned({"alg": "ES256", "kid": "e1"}, b"\0" * 7),
        f"{signed}.{encoded(confused)}",
        token(RSA_2),
        token(RSA_2, header={"kid": "r1"}),
        token(RSA_2, header={}),
        token(RSA_2, header={"kid": "r1", "jwk": RSA_2.as_dict(private=False)}),
        token(EC, "ES256", header={"kid": "r1"}),
        token(RSA, "RS512"),
        token(EC_384, "ES384"),
        token(header={"kid": "r1", "b64": True}),
        token(header={"kid": "r9"}),
        token(header={"kid": "../../r1"}),
        f"{head}.{other}.{signature}",
        f"{head}.{body}.{signature[:-4]}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature}=",
        f"{head}=.{body}.{signature}",
        f"{head}.{body}.{signature[:-1]}+",
        f"{head}.{body}",
        f"{head}.{body}.{signature}.x",
        f".{body}.{signature}",
        "..",
        "eyJ..",
        f"{encoded(b'[' * 5000)}.{body}.{signature}",
        f"{encoded(b'null')}.{body}.{signature}",
        f"{encoded(bytes([0xFF]))}.{body}.{signature}",
    ]
    one = verifier()
    for text in wrong:
        assert "invalid_api_key" == await refused(one, text), text
    with_secret = verifier(algorithms=["HS256"], jwks=None, key=SECRET)
    assert "invalid_api_key" == await refused(with_secret, good)
    assert "invalid_api_key" == await refused(with_secret, unsigned({"alg": "none"}))


async def test_issue_20500_a_critical_header_that_is_not_understood() -> None:
    """An extension that the issuer calls critical is refused."""
    one = verifier(algorithms=["HS256"], jwks=None, key=SECRET)
    signed = unsigned({"alg": "HS256", "crit": ["exp"]}).rpartition(".")[0]
    mac = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()
    assert "invalid_api_key" == await refused(one, f"{signed}.{encoded(mac)}")


@given(data=st.data())
async def test_issue_20500_no_change_of_a_token_passes(data: st.DataObject) -> None:
    """One character more, less or other, anywhere, is no token of the issuer's."""
    one, good = VERIFIER, GOOD
    at = data.draw(st.integers(0, len(good) - 1))
    put = data.draw(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=3))
    gone = data.draw(st.integers(0, 3))
    changed = good[:at] + put + good[at + gone :]
    try:
        principal = await verified(one, changed)
    except AuthenticationError:
        return
    # The last character of a signature has bits that mean nothing.
    assert Principal(user_id="ada") == principal
    assert good.rpartition(".")[0] == changed.rpartition(".")[0]


GOOD = token()
VERIFIER = verifier()


async def test_issue_20500_the_end_of_a_token() -> None:
    """A token ends with its leeway, also remembered, and when the clock is turned back."""
    wall, mono = NOW, 0.0
    one = JWTVerifier(issuer=ISSUER, audience=AUDIENCE, jwks=JWKS, wall_clock=lambda: wall,
                      clock=lambda: mono, cached_seconds=10_000)  # fmt: skip
    text = token(exp=NOW + 100)
    digest = hashlib.sha256(text.encode()).digest()
    assert None is one.peek(digest)
    ada = await verified(one, text)
    assert ada == one.peek(digest)
    wall += 129.9
    assert ada == one.peek(digest) == await verified(one, text)
    wall += 0.1
    assert None is one.peek(digest)
    assert "expired_api_key" == await refused(one, text)
    wall -= 5000
    mono += 1
    assert None is one.peek(digest)
    assert "expired_api_key" == await refused(one, text)


async def test_cve_2026_35030_tokens_that_share_a_beginning() -> None:
    """Each token has its own identity, however much of it is the same as another's."""
    one = verifier(algorithms=["HS256"], jwks=None, key=SECRET)
    secret = OctKey.import_key(SECRET)
    for same in (20, 64):
        texts = [
            token(secret, "HS256", header={}, pad="x" * 100, sub=sub) for sub in ("ada", "eve")
        ]
        assert texts[0][:same] == texts[1][:same]
        principals = [await verified(one, text) for text in texts]
        assert ["ada", "eve"] == [principal.user_id for principal in principals]
        found = [one.peek(hashlib.sha256(text.encode()).digest()) for text in texts]
        assert principals == found
    text = token(secret, "HS256", header={})
    await verified(one, text)
    layer = AuthMiddleware(Inside(), jwt=one)
    assert 200 == (await ask(layer, bearer(text))).status
    for end in ("A", "B", "_"):
        if text[-2] != end:
            assert 401 == (await ask(layer, bearer(text[:-2] + end + text[-1]))).status
    assert 401 == (await ask(layer, bearer(text[:-1]))).status


async def test_what_is_remembered_is_bounded() -> None:
    """In number, and for a time after which a key that was withdrawn is found out."""
    clock = ManualClock()
    one = verifier(max_cached=2, cached_seconds=5, clock=clock)
    texts = [token(sub=name) for name in "abc"]
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    for text in texts:
        await verified(one, text)
    assert [False, True, True] == [one.peek(digest) is not None for digest in digests]
    clock.advance(5)
    assert [None] * 3 == [one.peek(digest) for digest in digests]


MAPPED: dict[str, Any] = {
    "claims": {
        "user_id": "sub",
        "team_id": "org.team",
        "organization_id": "https://example.com/tenant",
        "tier": "tier",
        "models": "models",
        "scopes": "scope",
        "key_name": "azp",
    },
    "role_claim": "realm_access.roles",
    "roles": {"llm-admin": "admin", "llm-lead": "team_admin"},
}


async def test_claims_fill_the_principal() -> None:
    """Each field from its claim: by name, by path, from a list or from words."""
    one = verifier(**MAPPED)
    text = token(
        org={"team": "t1"}, tier="pro", models=["gpt-*"], scope="chat files", azp="app",
        realm_access={"roles": ["x", "llm-lead"]}, **{"https://example.com/tenant": "acme"},
    )  # fmt: skip
    expected = Principal(
        user_id="ada", team_id="t1", organization_id="acme", tier="pro", models=("gpt-*",),
        scopes=frozenset({"chat", "files"}), key_name="app", role="team_admin",
    )  # fmt: skip
    assert expected == await verified(one, text)
    roles = {"roles": ["llm-lead", "llm-admin", "llm-lead"]}
    assert "admin" == (await verified(one, token(realm_access=roles))).role


async def test_claims_that_are_missing() -> None:
    """What the token does not say is empty, and no model is allowed where it should name them."""
    assert Principal(user_id="ada", models=()) == await verified(verifier(**MAPPED), token())


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": {"all": True}},
        {"models": [1.5]},
        {"models": [None]},
        {"scope": 7},
        {"tier": ["pro"]},
        {"realm_access": {"roles": {"llm-admin": True}}},
        {"models": ["m"] * 1001},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_claims_of_another_kind(wrong: dict[str, Any]) -> None:
    """A claim that cannot be understood refuses the token: nothing is guessed."""
    assert "invalid_api_key" == await refused(verifier(**MAPPED), token(**wrong))


async def test_a_role_is_not_read_from_the_token_itself() -> None:
    """``role`` in a token, or a role that is not mapped, makes nobody more than a member."""
    text = token(role="admin", roles=["admin"], realm_access={"roles": ["admin", "LLM-ADMIN"]})
    assert "member" == (await verified(verifier(**MAPPED), text)).role
    assert "member" == (await verified(verifier(), text)).role


# Published keys


class Published:
    """A ``fetch`` that serves documents, counts, and fails as told."""

    def __init__(self, *keys: Any) -> None:
        self.documents: dict[str, Any] = {"https://login.example.com/keys": key_set(*keys)}
        self.fetched: list[str] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def __call__(self, url: str) -> bytes:
        self.fetched.append(url)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return msgspec.json.encode(self.documents[url])

    def publish(self, *keys: Any) -> None:
        self.documents["https://login.example.com/keys"] = key_set(*keys)


def key_set(*keys: Any) -> Any:
    return {"keys": [key.as_dict(private=False) for key in keys]}


def remote(published: Published, clock: ManualClock, **options: Any) -> JWTVerifier:
    given = {"jwks_url": "https://login.example.com/keys", **options}
    return verifier(jwks=None, fetch=published, clock=clock, **given)


async def test_published_keys_are_fetched_once() -> None:
    """For all who wait, and again when they are older than their time."""
    clock, published = ManualClock(), Published(RSA)
    one = remote(published, clock, cached_seconds=0)
    published.gate = asyncio.Event()
    tasks = [asyncio.create_task(verified(one, token())) for _ in range(50)]
    for _ in range(20):
        await asyncio.sleep(0)
    tasks[0].cancel()
    published.gate.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert [Principal(user_id="ada")] * 49 == done[1:]
    assert 1 == len(published.fetched)
    clock.advance(600)
    await verified(one, token())
    assert 2 == len(published.fetched)


async def test_an_issuer_that_is_no_url() -> None:
    """It may have any name where it is said by itself where its keys are."""
    one = remote(Published(RSA), ManualClock(), issuer="tenant-7")
    assert Principal(user_id="ada") == await verified(one, token(iss="tenant-7"))


async def test_keys_are_rotated() -> None:
    """A key that is new is fetched when a token names it; one that is gone is refused."""
    clock, published = ManualClock(), Published(RSA)
    one = remote(published, clock)
    await verified(one, token())
    published.publish(RSA_2)
    assert "invalid_api_key" == await refused(one, token(RSA_2))
    clock.advance(10)
    assert Principal(user_id="ada") == await verified(one, token(RSA_2))
    assert "invalid_api_key" == await refused(one, token(RSA))


async def test_made_up_key_ids_do_not_flood_the_issuer() -> None:
    """However many there are: one fetch in ten seconds."""
    clock, published = ManualClock(), Published(RSA)
    one = remote(published, clock)
    for number in range(100):
        await refused(one, token(header={"kid": f"made-up-{number}"}))
        clock.advance(0.5)
    assert 5 == len(published.fetched)


async def test_keys_that_cannot_be_fetched() -> None:
    """Those that are there go on up to their age; without any nobody is refused for a bad token."""
    clock, published = ManualClock(), Published(RSA)
    published.error = OSError("refused")
    one = remote(published, clock, keys_stale_seconds=3600, cached_seconds=0)
    layer = AuthMiddleware(Inside(), jwt=one)
    lasting = token(exp=NOW + 10**6)
    for _ in range(3):
        recorder = await ask(layer, bearer(lasting))
        assert (503, "store_unavailable") == (recorder.status, code(recorder))
    assert 1 == len(published.fetched)
    published.error = None
    clock.advance(10)
    assert 200 == (await ask(layer, bearer(lasting))).status
    published.error = OSError("refused")
    clock.advance(3599)
    assert 200 == (await ask(layer, bearer(lasting))).status
    with pytest.raises(StoreError):
        await verified(one, token(RSA_2))
    clock.advance(1)
    assert 503 == (await ask(layer, bearer(lasting))).status


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"keys": {}},
        {"keys": []},
        {"keys": [OctKey.import_key(SECRET, {"kid": "r1"}).as_dict(private=True)]},
        {"keys": [{**RSA.as_dict(private=False), "use": "enc"}]},
        {"keys": [{"kty": "RSA", "kid": "r1"}, 7, {"kty": "AKP"}]},
    ],
    ids=["a list", "nothing", "no list", "an empty list", "a secret", "for another use", "broken"],
)
async def test_key_sets_that_hold_nothing(document: Any) -> None:
    """What is no set of public signing keys is as good as none: a secret in it above all."""
    published = Published()
    published.documents["https://login.example.com/keys"] = document
    with pytest.raises(StoreError):
        await verified(remote(published, ManualClock()), token())


async def test_a_key_that_is_not_understood_is_left_out() -> None:
    """Beside it the others are used."""
    published = Published(RSA)
    published.documents["https://login.example.com/keys"]["keys"][:0] = [{"kty": "AKP"}, "x"]
    assert await verified(remote(published, ManualClock()), token())


async def test_two_keys_that_fit() -> None:
    """A token that names no key, where it could be one of two, is refused: none is tried."""
    one = remote(Published(RSA, RSA_2), ManualClock())
    assert await verified(one, token(RSA_2))
    assert "invalid_api_key" == await refused(one, token(header={}))


DISCOVERY = ISSUER + "/.well-known/openid-configuration"


async def test_discovery() -> None:
    """With an issuer alone its document says where the keys are."""
    published = Published(RSA)
    published.documents[DISCOVERY] = {
        "issuer": ISSUER, "jwks_uri": "https://login.example.com/keys",
    }  # fmt: skip
    assert await verified(remote(published, ManualClock(), jwks_url=None), token())
    assert [DISCOVERY, "https://login.example.com/keys"] == published.fetched


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example.com", "jwks_uri": "https://login.example.com/keys"},
        {"issuer": ISSUER, "jwks_uri": "http://login.example.com/keys"},
        {"issuer": ISSUER, "jwks_uri": "file:///etc/keys"},
        {"issuer": ISSUER},
        [],
    ],
    ids=str,
)
async def test_discovery_of_another(document: Any) -> None:
    """A document of another issuer, or one that leads away from https, is not believed."""
    published = Published(RSA)
    published.documents[DISCOVERY] = document
    with pytest.raises(StoreError):
        await verified(remote(published, ManualClock(), jwks_url=None), token())
    assert [DISCOVERY] == published.fetched


async def test_keys_over_http() -> None:
    """The fetch that is built in reads a 200 and nothing else, over a socket."""
    async with Upstream() as upstream:
        upstream.script(json_reply(key_set(RSA)), json_reply({}, status=500), raw_reply(b"no"))
        fetch = HttpFetch()
        url = f"{upstream.url}/keys"
        assert key_set(RSA) == msgspec.json.decode(await fetch(url))
        for _ in range(2):
            with pytest.raises(StoreError):
                await fetch(url)
        await fetch.aclose()
        transport = Http1Transport()
        one = HttpFetch(transport)
        await one.aclose()
        upstream.script(json_reply(key_set(EC)))
        assert key_set(EC) == msgspec.json.decode(await one(url))
        await transport.aclose()
        await verifier(jwks=None, jwks_url="https://login.example.com/keys").aclose()


async def test_closing_while_keys_are_fetched() -> None:
    """Who waits is let go; nothing goes on behind the back of a test."""
    published = Published(RSA)
    published.gate = asyncio.Event()
    one = remote(published, ManualClock())
    waiting = asyncio.create_task(verified(one, token()))
    for _ in range(10):
        await asyncio.sleep(0)
    await one.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await verifier().aclose()


# In the layer


async def test_tokens_and_keys_together() -> None:
    """A token goes to its issuer's verifier, all else to the keys; neither falls back."""
    other = verifier(issuer="https://other.example.com")
    inside = Inside()
    layer = AuthMiddleware(
        inside, keys=MemoryKeys({KEY: CALLER}), jwt=[verifier(), other], master_key=None
    )
    assert 200 == (await ask(layer, bearer(token()))).status
    assert 200 == (await ask(layer, bearer(token(iss="https://other.example.com")))).status
    assert 200 == (await ask(layer)).status
    assert [Principal(user_id="ada")] * 2 + [CALLER] == inside.principals
    for text in (token(iss="https://third.example.com"), token(iss=None), token(RSA_2), "eyJ.x.y"):
        recorder = await ask(layer, bearer(text))
        assert (401, "invalid_api_key") == (recorder.status, code(recorder))
        assert b"Bearer" == recorder.header("www-authenticate")
    recorder = await ask(layer, bearer(token(exp=NOW - 60)))
    assert (401, "expired_api_key") == (recorder.status, code(recorder))
    assert b"Bearer" == recorder.header("www-authenticate")
    assert 401 == (await ask(layer, bearer("x" * 9000))).status
    assert 401 == (await ask(layer, bearer(token(pad="x" * 9000)))).status
    assert 3 == inside.calls


async def test_a_verified_token_is_verified_once() -> None:
    """The keys are asked for once, and a token that ends is refused from then on."""
    clock, published = ManualClock(), Published(RSA)
    one = remote(published, clock)
    layer = AuthMiddleware(Inside(), jwt=one)
    text = token()
    for _ in range(5):
        assert 200 == (await ask(layer, bearer(text))).status
    published.publish(RSA_2)
    clock.advance(299)
    assert 200 == (await ask(layer, bearer(text))).status
    assert 1 == len(published.fetched)
    await one.aclose()


PEM = RSA.as_pem(private=False)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"issuer": ""}, "issuer"),
        ({"audience": ""}, "audience"),
        ({"audience": []}, "audience"),
        ({"audience": ["a", ""]}, "audience"),
        ({"algorithms": []}, "algorithms"),
        ({"algorithms": "RS256"}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": ["ES256K"]}, "algorithms"),
        ({"algorithms": ["HS256", "RS256"], "jwks": None, "key": PEM}, "algorithms"),
        ({"algorithms": ["HS256"]}, "key"),
        ({"algorithms": ["HS256"], "jwks": None, "jwks_url": "https://x"}, "key"),
        ({"algorithms": ["HS256"], "jwks": None, "key": "short"}, "key"),
        ({"algorithms": ["HS256"], "jwks": None, "key": PEM}, "key"),
        ({"algorithms": ["ES256"], "jwks": None, "key": PEM}, "key"),
        ({"algorithms": ["RS256"], "jwks": None, "key": EC.as_dict(private=False)}, "key"),
        ({"jwks": None, "key": "no key at all"}, "key"),
        ({"key": PEM}, "key"),
        ({"jwks": {"keys": []}}, "jwks"),
        ({"jwks": None, "jwks_url": "http://login.example.com/keys"}, "jwks_url"),
        ({"jwks": None, "issuer": "login.example.com"}, "issuer"),
        ({"leeway_seconds": -1}, "leeway_seconds"),
        ({"leeway_seconds": 301}, "leeway_seconds"),
        ({"cached_seconds": -1}, "cached_seconds"),
        ({"max_cached": 0}, "max_cached"),
        ({"keys_fresh_seconds": 0}, "keys_fresh_seconds"),
        ({"keys_stale_seconds": 1}, "keys_stale_seconds"),
        ({"claims": {"role": "role"}}, "claims"),
        ({"claims": {"limits": "limits"}}, "claims"),
        ({"role_claim": "roles"}, "roles"),
        ({"roles": {"a": "admin"}}, "roles"),
        ({"role_claim": "roles", "roles": {"a": "root"}}, "roles"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_wrong_options(options: dict[str, Any], param: str) -> None:
    """What could weaken the check, or never let anybody in, is refused; a secret is not shown."""
    with pytest.raises(ConfigurationError) as raised:
        verifier(**options)
    assert param == raised.value.param
    assert "short" not in raised.value.message


def test_two_verifiers_of_one_issuer() -> None:
    """It would not be clear which one decides."""
    with pytest.raises(ConfigurationError) as raised:
        AuthMiddleware(Inside(), jwt=[verifier(), verifier()])
    assert "jwt" == raised.value.param
