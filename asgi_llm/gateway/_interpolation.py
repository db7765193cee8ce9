"""``${NAME}`` and ``${NAME:-default}`` in a configuration file.

References are taken out before the text is parsed as YAML and put back, resolved, into the parsed
values. So they may stand bare inside ``{...}``, where YAML reads a brace as its own, and what a
variable holds is a value and never YAML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["MissingVariableError", "References"]

# A reference stands in the text as one private-use character, filled up to its own length with
# another, so that the columns in YAML's messages stay true.
_FIRST = 0xF0000
_LAST = 0xFFFFD
_FILL = "\ue000"

_REFERENCE = re.compile(
    r"\$\$(?:\{[^}\n]*\})?"
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}\n]*))?\}"
    r"|\$\{[^}\n]*\}?"
)
_PLACEHOLDER = re.compile(f"([{chr(_FIRST)}-{chr(_LAST)}]){_FILL}*")
_RESERVED = re.compile(f"[{_FILL}{chr(_FIRST)}-{chr(_LAST)}]")


class MissingVariableError(Exception):
    """A reference that cannot be resolved; the text says why, and names no value."""


class _Reference(NamedTuple):
    text: str
    name: str | None
    default: str | None


class References:
    """The references of one text.

    Args:
        environ: Where the names are looked up.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._found: list[_Reference] = []

    def hide(self, text: str) -> str:
        """``text`` of the same length, with a placeholder for each reference.

        Raises:
            ValueError: ``text`` holds a character that stands for a placeholder, or too many
                references.
        """
        if found := _RESERVED.search(text):
            raise ValueError(f"the character U+{ord(found[0]):04X} is not allowed")
        return _REFERENCE.sub(self._hide_one, text)

    def _hide_one(self, match: re.Match[str]) -> str:
        if _FIRST + len(self._found) > _LAST:
            raise ValueError("too many ${...} references")
        mark = chr(_FIRST + len(self._found))
        self._found.append(_Reference(match[0], match["name"], match["default"]))
        return mark + _FILL * (len(match[0]) - 1)

    def resolve(self, text: str) -> tuple[str, bool]:
        """``text`` with its references resolved, and whether any came from the environment.

        Raises:
            MissingVariableError: A variable is not set and has no default, or the reference is
                malformed.
        """
        if not _PLACEHOLDER.search(text):
            return text, False
        from_environment = False

        def put_back(match: re.Match[str]) -> str:
            nonlocal from_environment
            reference = self._found[ord(match[1]) - _FIRST]
            if reference.text.startswith("$$"):
                return reference.text[1:]
            if reference.name is None:
                raise MissingVariableError(
                    f"{reference.text} is no reference; "
                    "write ${NAME}, ${NAME:-default}, or $${ for the two characters"
                )
            value = self._environ.get(reference.name)
            if reference.default is not None and not value:
                return reference.default
            if value is None:
                raise MissingVariableError(
                    f"the environment variable {reference.name} is not set; "
                    f"set it, or write ${{{reference.name}:-default}}"
                )
            from_environment = True
            return value

        return _PLACEHOLDER.sub(put_back, text), from_environment

    def show(self, text: str) -> str:
        """``text`` as it was written, for messages."""
        return _PLACEHOLDER.sub(lambda match: self._found[ord(match[1]) - _FIRST].text, text)
