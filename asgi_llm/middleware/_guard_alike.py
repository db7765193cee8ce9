"""Characters that look like others, and those that nobody sees."""
# ruff: noqa: RUF001  the table is made of them

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Final

__all__ = ["fold"]

_AT_ONCE: Final = 32 * 1024


def fold(text: str) -> str:
    """``text`` in ASCII's letters, digits and marks where it only looks like them."""
    if len(text) > _AT_ONCE:
        # Other threads get their turn between two steps only.
        return "".join([fold(text[at : at + _AT_ONCE]) for at in range(0, len(text), _AT_ONCE)])
    return unicodedata.normalize("NFKD", text).translate(_table())


# Cyrillic, Greek, Armenian and others that cannot be told from ASCII's letters in most fonts.
# Source: Unicode Technical Standard 39, confusables.txt, version 16.0 (a part).
_ALIKE: Final = {
    "a": "аɑαａ⍺", "b": "ЬƄᖯ", "c": "сϲᴄⅽ", "d": "ԁⅾɗ", "e": "еҽ℮ё", "f": "ƒſ",
    "g": "ɡց", "h": "һհ", "i": "іıɩιǐⅰӏ", "j": "јϳ", "k": "κкᴋ", "l": "ⅼǀ∣ɫ", "m": "ⅿм",
    "n": "ոпη", "o": "оοօᴏσ๐௦०੦૦ⲟ", "p": "рρⲣ", "q": "ԛզ", "r": "гᴦⲅ", "s": "ѕꜱƽ",
    "t": "тτᴛ", "u": "υսᴜцʋ", "v": "ѵνᴠⅴ", "w": "ԝѡᴡա", "x": "хχⅹ×", "y": "уγүყʏ", "z": "ᴢʐ",
    "A": "АΑᎪᴀ", "B": "ВΒᏴʙ", "C": "СϹᏟⅭ", "D": "Ꭰᴅⅾ", "E": "ЕΕᎬᴇ", "F": "Ϝ", "G": "Ԍɢ",
    "H": "НΗᎻʜ", "I": "ІΙⅠӀɪ", "J": "ЈᎫᴊ", "K": "КΚᏦ", "L": "Ꮮʟⅼ", "M": "МΜᎷᴍⅯ", "N": "Νɴ",
    "O": "ОΟՕ", "P": "РΡᏢᴘ", "Q": "Ԛ", "R": "Ꭱʀ", "S": "ЅՏᏚ", "T": "ТΤᎢ", "U": "Ս", "V": "ᏙⅤѴ",
    "W": "ԜᎳ", "X": "ХΧⅩ", "Y": "ΥҮ", "Z": "ΖᏃ",
    "-": "‐‑‒–—―−⁃﹣", ".": "․。｡", "@": "＠﹫", "/": "⁄∕⧸", ":": "∶ː։", "'": "‘’ʼ′", '"': "“”″",
    " ": "\u1680\u180e\u2028\u2029",
}  # fmt: skip
_UNSEEN: Final = (
    (0x00AD, 0x00AD), (0x0300, 0x036F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5),
    (0x180B, 0x180D), (0x180F, 0x180F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x200B, 0x200F),
    (0x202A, 0x202E), (0x2060, 0x206F), (0x20D0, 0x20FF), (0x3164, 0x3164), (0xFE00, 0xFE0F),
    (0xFE20, 0xFE2F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF9, 0xFFFB), (0x1D173, 0x1D17A),
    (0xE0000, 0xE007F), (0xE0100, 0xE01EF),
)  # fmt: skip


@cache
def _table() -> dict[int, str | None]:
    table: dict[int, str | None] = {}
    for first, last in _UNSEEN:
        table |= dict.fromkeys(range(first, last + 1))
    for letter, others in _ALIKE.items():
        table |= {ord(one): letter for one in others if ord(one) > 127}
    # Tags are ASCII that nobody sees; letters in squares and flags are capitals.
    table |= {0xE0000 + code: chr(code) for code in range(0x20, 0x7F)}
    for first in (0x1F130, 0x1F150, 0x1F170, 0x1F1E6):
        table |= {first + number: chr(65 + number) for number in range(26)}
    return table
