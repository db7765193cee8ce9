"""Where a key may stand, and that nothing but the key itself is the key."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.errors import InvalidRequestError
from asgi_llm.middleware._credentials import (
    MAX_CREDENTIAL_BYTES,
    claimed_issuer,
    read_credential,
    refuse_key_in_url,
)
from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.stores.keys_memory import MemoryKeys
from tests.middleware.auth.probes import CALLER, KEY, Inside, ask, bearer, code

OTHER = "sk-other-key-00000000000000000000000000000000"


def layered(inside: Inside) -> AuthMiddleware:
    return AuthMiddleware(inside, keys=MemoryKeys({KEY: CALLER}))


@pytest.mark.parametrize(
    "header",
    [
        ("authorization", f"Bearer {KEY}"),
        ("authorization", f"bearer {KEY}"),
        ("authorization", f"BEARER {KEY}"),
        ("x-api-key", KEY),
        ("api-key", KEY),
        ("x-goog-api-key", KEY),
    ],
)
async def test_each_place_of_a_key(header: tuple[str, str]) -> None:
    """A key is found in each of its headers; the scheme's name has no case."""
    inside = Inside()
    assert 200 == (await ask(layered(inside), [header])).status
    assert [CALLER] == inside.principals


@pytest.mark.parametrize(
    "headers",
    [
        [*bearer(), *bearer()],
        [*bearer(), ("authorization", "Basic YTpi")],
        [*bearer(), ("authorization", "")],
        [*bearer(), *bearer(OTHER)],
        [*bearer(), ("x-api-key", OTHER)],
        [("x-api-key", OTHER), *bearer()],
        [("x-api-key", KEY), ("api-key", OTHER)],
        [("x-api-key", KEY), ("x-api-key", OTHER)],
        [("x-goog-api-key", OTHER), ("api-key", KEY)],
        [("authorization", "Basic YTpi"), ("x-api-key", KEY)],
    ],
)
async def test_a2_two_credentials_that_differ(headers: list[tuple[str, str]]) -> None:
    """Two that differ, or two Authorization headers, are a 400 in any order: none wins."""
    inside = Inside()
    recorder = await ask(layered(inside), headers)
    assert (400, "ambiguous_credentials") == (recorder.status, code(recorder))
    assert 0 == inside.calls
    assert KEY.encode() not in recorder.body


async def test_a2_one_key_in_several_places() -> None:
    """The same key twice, as some gateways send it, is one key."""
    inside = Inside()
    headers = [*bearer(), ("x-api-key", KEY), ("api-key", KEY), ("x-goog-api-key", "")]
    assert 200 == (await ask(layered(inside), headers)).status
    assert [CALLER] == inside.principals


@pytest.mark.parametrize(
    "name", ["x_api_key", "api_key", "x_goog_api_key", "http_authorization", "proxy-authorization"]
)
async def test_a3_other_names_are_ignored(name: str) -> None:
    """An underscore in place of a dash makes another header, good and bad key alike."""
    inside = Inside()
    recorder = await ask(layered(inside), [(name, KEY)])
    assert (401, "missing_api_key") == (recorder.status, code(recorder))
    assert 200 == (await ask(layered(inside), [*bearer(), (name, OTHER)])).status
    assert [CALLER] == inside.principals


async def test_a3_a_connection_header_hides_nothing() -> None:
    """Naming Authorization in Connection changes no decision."""
    inside = Inside()
    named = ("connection", "authorization, x-api-key")
    assert 200 == (await ask(layered(inside), [named, *bearer()])).status
    assert 401 == (await ask(layered(inside), [named, *bearer(OTHER)])).status


VARIANTS = [
    KEY.lower(),
    KEY.upper(),
    KEY.swapcase(),
    f" {KEY}",
    f"{KEY} ",
    f"\t{KEY}",
    f"{KEY}\t",
    f"{KEY}\n",
    f"{KEY}\r\n",
    f"{KEY}\0",
    f"\0{KEY}",
    f"Bearer {KEY}",
    f"Bearer Bearer {KEY}",
    f'"{KEY}"',
    f"'{KEY}'",
    f"{KEY},",
    f"{KEY}, {KEY}",
    f"{KEY};",
    f"{KEY}\u00a0",
    f"{KEY}\u200b",
    f"\ufeff{KEY}",
    "".join(chr(ord(c) + 0xFEE0) for c in KEY),
    unicodedata.normalize("NFKD", KEY) + "\u0301",
    KEY[:-1],
    KEY[1:],
    KEY + KEY,
    KEY.replace("-", "\u2010"),
    KEY.replace("s", "\u017f", 1),
    "' OR '1'='1",
    "' OR '1'='1' --",
    f"{KEY}' OR 'a'='a",
    '" or ""="',
    "1; DROP TABLE keys",
    "1' UNION SELECT * FROM keys--",
    "admin'/*",
    "%27%20OR%201=1",
    "${jndi:ldap://127.0.0.1/a}",
    "*",
    "null",
    "undefined",
    "None",
    "0",
]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key", "x-goog-api-key"])
async def test_b2_a_variant_is_no_key(name: str, encoding: str) -> None:
    """No variant of the key, in any header and encoding, is the key: always the same 401."""
    bodies = set()
    for variant in VARIANTS:
        try:
            value = variant.encode(encoding)
        except UnicodeEncodeError:
            continue
        inside = Inside()
        if name == "authorization":
            value = b"Bearer " + value
        recorder = await ask(layered(inside), [(name.encode(), value)])
        assert (401, "invalid_api_key") == (recorder.status, code(recorder)), variant
        assert [] == inside.principals, variant
        bodies.add(recorder.body)
    assert 1 == len(bodies)


@given(value=st.binary(max_size=80), cut=st.integers(0, len(KEY)), name=st.integers(0, 3))
async def test_b2_only_the_bytes_of_the_key_are_the_key(value: bytes, cut: int, name: int) -> None:
    """Whatever is put into, before or behind the key: it is the key's identity or none."""
    whole = KEY.encode()
    mixed = whole[:cut] + value + whole[cut:]
    header = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")[name]
    sent = b"Bearer " + mixed if name == 0 else mixed
    inside = Inside()
    recorder = await ask(layered(inside), [(header, sent)])
    if mixed == whole:
        assert [CALLER] == inside.principals
    else:
        assert 401 == recorder.status
        assert [] == inside.principals


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"authorization", b"x-api-key", b"api-key", b"host"]),
            st.sampled_from(
                [
                    KEY.encode(),
                    b"Bearer " + KEY.encode(),
                    b"",
                    b"Bearer",
                    b"Basic x",
                    OTHER.encode(),
                    b"bearer  x",
                ]
            ),
        ),
        max_size=6,
    )
)
async def test_a2_any_headers_give_one_identity_or_none(headers: list[tuple[bytes, bytes]]) -> None:
    """Any mixture of good, bad and empty headers is the one key, a 400 or a 401."""
    inside = Inside()
    recorder = await ask(layered(inside), headers)
    if recorder.status == 200:
        assert [CALLER] == inside.principals
        assert {KEY.encode()} == {read_credential(headers)}
    else:
        assert recorder.status in (400, 401)
        assert [] == inside.principals


@pytest.mark.parametrize("length", [513, MAX_CREDENTIAL_BYTES, MAX_CREDENTIAL_BYTES + 1, 10**6])
async def test_b2_a_long_credential(length: int) -> None:
    """A credential of any length is no key, and no more than the cap of it is hashed."""
    inside = Inside()
    recorder = await ask(layered(inside), bearer("x" * length))
    assert (401, "invalid_api_key") == (recorder.status, code(recorder))


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "bearer"])
async def test_b2_an_empty_credential_is_none(value: str) -> None:
    """A header without a key in it is as good as no header."""
    recorder = await ask(layered(Inside()), [("authorization", value)])
    assert (401, "missing_api_key") == (recorder.status, code(recorder))


QUERIES = [
    f"key={KEY}",
    f"api_key={KEY}",
    f"api-key={KEY}",
    f"apikey={KEY}",
    f"access_token={KEY}",
    f"KEY={KEY}",
    f"a=1&%6bey={KEY}",
    f"%6Bey={KEY}",
    f"+key={KEY}",
    f"alt=sse&key={KEY}&x=1",
    "key",
]


@pytest.mark.parametrize("query", QUERIES)
async def test_a20_a_key_in_the_url(query: str, caplog: pytest.LogCaptureFixture) -> None:
    """A key in the URL is refused, also beside a good one, and is shown nowhere."""
    caplog.set_level("DEBUG")
    for headers in ([], bearer(OTHER), bearer()):
        inside = Inside()
        recorder = await ask(layered(inside), headers, path=f"/v1/files?{query}")
        assert (400, "key_in_url") == (recorder.status, code(recorder))
        assert 0 == inside.calls
        assert KEY not in repr(recorder.messages)
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "query",
    [b"", b"monkey=1", b"keyboard=1", b"x=key", b"=key", b"a=1&b=api_key", b"&&", b"%", b"%zz"],
)
def test_a20_other_queries_pass(query: bytes) -> None:
    """Only the name of a field counts."""
    refuse_key_in_url(query)


def test_a20_a_field_in_the_url_is_named() -> None:
    """The message says where the key belongs, and ``param`` which field it was."""
    with pytest.raises(InvalidRequestError, match="Authorization header") as raised:
        refuse_key_in_url(b"Api_Key=sk-1")
    assert "api_key" == raised.value.param


@given(st.binary(max_size=60))
def test_the_claimed_issuer_is_text_or_nothing(payload: bytes) -> None:
    """Reading an unverified token never fails."""
    issuer = claimed_issuer(b"eyJ." + payload.replace(b".", b"") + b".x")
    assert issuer is None or isinstance(issuer, str)
