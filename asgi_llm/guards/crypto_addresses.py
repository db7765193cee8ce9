"""Checksums of crypto currencies' addresses."""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["base58check", "bech32"]

_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_VALUES: Final = {letter: value for value, letter in enumerate(_BASE58)}
_BECH32_VALUES: Final = {
    letter: value for value, letter in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")
}
_GENERATORS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M: Final = 0x2BC830A3


def base58check(text: str) -> bool:
    """Whether ``text`` is base58 with a checksum of four bytes over 21. Source: Bitcoin wiki."""
    number = 0
    for letter in text:
        value = _BASE58_VALUES.get(letter)
        if value is None:
            return False
        number = number * 58 + value
    zeros = len(text) - len(text.lstrip("1"))
    body = number.to_bytes((number.bit_length() + 7) // 8, "big")
    data = b"\0" * zeros + body
    if len(data) != 25:
        return False
    digest = hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()
    return digest[:4] == data[-4:]


def bech32(text: str) -> bool:
    """Whether ``text`` has the checksum of bech32 or bech32m. Source: BIP 173, BIP 350."""
    if text != text.lower() and text != text.upper():
        return False
    prefix, _, data = text.lower().rpartition("1")
    if not prefix or len(data) < 8 or any(letter not in _BECH32_VALUES for letter in data):
        return False
    check = 1
    values = [ord(one) >> 5 for one in prefix] + [0] + [ord(one) & 31 for one in prefix]
    for value in values + [_BECH32_VALUES[letter] for letter in data]:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            if top >> bit & 1:
                check ^= generator
    return check in (1, _BECH32M)
