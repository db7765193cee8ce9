"""What of a text's wording matters, as a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from asgi_llm.middleware._agreement import Reading

__all__ = ["WORDING_BYTES", "wording_of"]

WORDING_BYTES: Final = 8

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode


def wording_of(readings: Sequence[Reading]) -> bytes:
    """A digest that texts share only where they say the same words in the same order.

    Greetings, thanks, frames ("how do I" for "what is the way to") and synonyms make no difference.

    Args:
        readings: Of the text, or of each of its turns.
    """
    told = [
        (
            one.question,
            one.quantities,
            sorted(one.units),
            sorted(one.dates),
            sorted(one.date_ends),
            one.quoted,
            sorted(one.identifiers),
            one.names,
            sorted(one.persons - {"first"}),
            one.negations,
            sorted(one.negated),
            [(token.word, token.after) for token in one.tokens],
            one.symbols,
            one.ending,
            one.plain,
        )
        for one in readings
    ]
    return hashlib.blake2b(_encode(told), digest_size=WORDING_BYTES).digest()
