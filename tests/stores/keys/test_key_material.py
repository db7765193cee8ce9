"""Keys as text, and the fixed set of them."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.base import KeyRecord
from asgi_llm.stores.key_material import MAX_KEY_LENGTH, digest_key, key_hint, new_key
from asgi_llm.stores.keys_memory import MemoryKeys
from asgi_llm.types import Principal

ADA = Principal(user_id="ada")


def test_new_keys() -> None:
    """A key is ``sk-`` and 32 random bytes, can be digested, and does not come twice."""
    keys = {new_key() for _ in range(1000)}
    assert 1000 == len(keys)
    assert all(re.fullmatch(r"sk-[A-Za-z0-9_-]{43}", key) for key in keys)
    assert 1000 == len({digest_key(key) for key in keys})


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=600))
def test_b1_b2_the_digest_is_of_the_very_bytes(key: str) -> None:
    """The digest is the SHA-256 of the key as it is sent, for all keys that can be sent."""
    if len(key) > MAX_KEY_LENGTH:
        with pytest.raises(ConfigurationError):
            digest_key(key)
    else:
        assert hashlib.sha256(key.encode()).digest() == digest_key(key)


@pytest.mark.parametrize(
    "key", ["", " ", "sk 1", "sk-1\n", "sk-\t1", "sk-é", "sk-\0", "\u200bsk-1"]
)
def test_b2_keys_that_cannot_be_sent(key: str) -> None:
    """What no header carries unchanged is no key, and is not quoted."""
    with pytest.raises(ConfigurationError) as raised:
        digest_key(key)
    assert not key.strip() or key not in raised.value.message


def test_hints() -> None:
    """The last four characters; nothing of a key so short that they would give it away."""
    assert ("cdef", "") == (key_hint("0123456789abcdef"), key_hint("0123456789abcde"))


async def test_memory_keys() -> None:
    """Keys are found by their digest, given as text or as a digest, and are not kept."""
    known = KeyRecord(principal=ADA, active=False)
    keys = MemoryKeys({"sk-ada": ADA, "sha256:" + digest_key("sk-eve").hex().upper(): known})
    assert 2 == len(keys)
    assert KeyRecord(principal=ADA) == keys.peek(digest_key("sk-ada"))
    assert known == await keys.find(digest_key("sk-eve"))
    assert None is keys.peek(digest_key("sk-bob"))
    assert "sk-ada" not in repr(vars(keys))


def test_hardening_2026_04_a_digest_is_not_a_password() -> None:
    """64 hexadecimal digits are a key of their own; the digest they look like is not opened."""
    digest = digest_key("sk-ada")
    keys = MemoryKeys({"sk-ada": ADA})
    assert None is keys.peek(digest_key(digest.hex()))
    assert None is keys.peek(digest_key("sha256:" + digest.hex()))
    assert None is MemoryKeys({digest.hex(): ADA}).peek(digest)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["sk-1", "sk- 2"], "key 2: a key must be"),
        (["sha256:abc"], "key 1: sha256: is followed by 64"),
        (["sha256:" + "z" * 64], "key 1: sha256: is followed by 64"),
        (["sha256:" + hashlib.sha256(b"").hexdigest()], "the digest of an empty text"),
        (["sk-1", "sha256:" + hashlib.sha256(b"sk-1").hexdigest()], "key 2 is there already"),
    ],
)
def test_wrong_keys(keys: list[str], message: str) -> None:
    """A key that could never be used, or twice, is named by its position and not shown."""
    with pytest.raises(ConfigurationError, match=message) as raised:
        MemoryKeys(dict.fromkeys(keys, ADA))
    assert "keys" == raised.value.param
    assert "sk-" not in raised.value.message
