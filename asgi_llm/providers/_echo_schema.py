"""An instance for a JSON Schema: the same one each time, and valid for the common keywords.

Not followed: ``not``, ``if``, ``patternProperties``, ``dependentSchemas``, ``uniqueItems`` over
constant items, and a ``pattern`` beyond literals, classes, groups, alternatives and counts.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

__all__ = ["instance"]

_MAX_DEPTH: Final = 12
_MAX_REPEAT: Final = 1000
_MAX_VALUES: Final = 10_000

_FORMATS: Final = {
    "date": "2024-01-01",
    "date-time": "2024-01-01T00:00:00Z",
    "duration": "P1D",
    "email": "echo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "00:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance(schema: Any, name: str = "text") -> Any:
    """A value that is valid for ``schema``.

    Args:
        schema: A JSON Schema. Anything that is none allows everything.
        name: What a string without further rules says.

    Raises:
        ValueError: The instance would have more than 10,000 values, or the schema is nested too
            deeply.
    """
    try:
        return _Maker(schema).make(schema, name, 0)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


class _Maker:
    """Makes values for one root schema, which its ``$ref`` point into."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._made = 0

    def make(self, schema: Any, name: str, depth: int) -> Any:
        schema = self._resolved(schema)
        if not isinstance(schema, dict) or not schema:
            return name
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return schema["enum"][0]
        for key in ("anyOf", "oneOf"):
            options = schema.get(key)
            if isinstance(options, list) and options:
                rest = {k: v for k, v in schema.items() if k != key}
                return self.make(_merged(rest, self._option(options, depth)), name, depth)
        kind = _kind(schema, depth)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind in ("number", "integer"):
            return _number(schema, kind == "integer")
        if kind == "boolean":
            return True
        return None if kind == "null" else _string(schema, name)

    def _resolved(self, schema: Any, level: int = 0) -> Any:
        """``schema`` with its reference followed and its ``allOf`` merged in."""
        if level > _MAX_DEPTH:
            return {}
        for _ in range(_MAX_DEPTH):
            self._made += 1
            if self._made > _MAX_VALUES:
                raise ValueError(f"an instance would have more than {_MAX_VALUES} values")
            if not isinstance(schema, dict):
                return schema
            if isinstance(reference := schema.get("$ref"), str):
                rest = {k: v for k, v in schema.items() if k != "$ref"}
                schema = _merged(self._target(reference), rest)
            elif isinstance(parts := schema.get("allOf"), list):
                schema = {k: v for k, v in schema.items() if k != "allOf"}
                for part in parts:
                    schema = _merged(schema, self._resolved(part, level + 1))
            else:
                break
        return schema

    def _target(self, reference: str) -> Any:
        found = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or step not in found:
                return {}
            found = found[step]
        return found

    def _option(self, options: list[Any], depth: int) -> Any:
        """The first option, or below the depth limit the first that does not go deeper."""
        if depth < _MAX_DEPTH // 2:
            return self._resolved(options[0])
        resolved = [self._resolved(option) for option in options]
        flat = [o for o in resolved if isinstance(o, dict) and _kind(o, 0) not in _CONTAINERS]
        return (flat or resolved)[0]

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = [key for key in schema.get("required") or () if isinstance(key, str)]
        keys = [*properties, *(key for key in required if key not in properties)]
        if depth >= _MAX_DEPTH:
            return {}
        if depth >= _MAX_DEPTH // 2:
            keys = [key for key in keys if key in required]
        extra = schema.get("additionalProperties")
        return {key: self.make(properties.get(key, extra), key, depth + 1) for key in keys}

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        if depth >= _MAX_DEPTH:
            return []
        prefix = schema.get("prefixItems")
        items: list[Any] = []
        if isinstance(prefix, list):
            items = [self.make(part, name, depth + 1) for part in prefix]
        least = _count(schema.get("minItems"), 1 if depth < _MAX_DEPTH // 2 and not items else 0)
        most = _count(schema.get("maxItems"), _MAX_REPEAT)
        while len(items) < min(least, most):
            items.append(self.make(schema.get("items"), name, depth + 1))
        return items


_CONTAINERS = ("object", "array")


def _kind(schema: dict[str, Any], depth: int) -> str:
    kind = schema.get("type")
    if isinstance(kind, list) and kind:
        # Nullable types end a recursion where it would go too deep.
        kind = "null" if depth >= _MAX_DEPTH // 2 and "null" in kind else kind[0]
    if isinstance(kind, str):
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "number" if "minimum" in schema or "maximum" in schema else "string"


def _merged(first: Any, second: Any) -> Any:
    """Both schemas in one: properties and required keys together, otherwise the second wins."""
    if not isinstance(first, dict) or not isinstance(second, dict):
        return second if isinstance(second, dict) else first
    merged = {**first, **second}
    if isinstance(first.get("properties"), dict) and isinstance(second.get("properties"), dict):
        merged["properties"] = {**first["properties"], **second["properties"]}
    if isinstance(first.get("required"), list) and isinstance(second.get("required"), list):
        merged["required"] = [*first["required"], *second["required"]]
    return merged


def _count(value: Any, default: int) -> int:
    return min(value, _MAX_REPEAT) if isinstance(value, int) and value >= 0 else default


def _number(schema: dict[str, Any], whole: bool) -> float:
    """The bound nearest to 1 from within, on the grid of ``multipleOf``."""
    step = schema.get("multipleOf")
    step = step if isinstance(step, (int, float)) and step > 0 else None
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    margin = step or (1 if whole else 0.5)
    value: float = 1
    if isinstance(high, (int, float)):
        value = min(value, high)
    if isinstance(below, (int, float)) and value >= below:
        value = below - margin
    if isinstance(low, (int, float)):
        value = max(value, low)
    if isinstance(above, (int, float)) and value <= above:
        value = above + margin
        if isinstance(below, (int, float)) and value >= below:
            value = (above + below) / 2
    if step is not None:
        on_grid = math.ceil(value / step) * step
        if isinstance(high, (int, float)) and on_grid > high:
            on_grid = math.floor(value / step) * step
        value = on_grid
    return math.ceil(value) if whole else value


def _string(schema: dict[str, Any], name: str) -> str:
    known = _FORMATS.get(str(schema.get("format")))
    if known is not None:
        return known
    least = _count(schema.get("minLength"), 0)
    most = _count(schema.get("maxLength"), _MAX_REPEAT)
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        return _Pattern(pattern, least).text()
    text = name or "text"
    while len(text) < least:
        text += " " + (name or "text")
    return text[: max(least, min(most, len(text)))] if most < len(text) else text


class _Pattern:
    """The shortest text for a simple pattern, widened to ``least`` at the first open repetition."""

    _CLASSES: Final = {
        "d": "0",
        "w": "a",
        "s": " ",
        "D": "a",
        "W": "-",
        "S": "a",
        "n": "\n",
        "t": "\t",
    }

    def __init__(self, pattern: str, least: int) -> None:
        self._pattern = pattern
        self._at = 0
        self._least = least

    def text(self) -> str:
        """The text; the pattern itself where it cannot be read."""
        try:
            text = self._alternatives()
        except (IndexError, ValueError):
            return self._pattern
        return text

    def _alternatives(self) -> str:
        first = self._sequence()
        while self._peek() == "|":
            self._at += 1
            self._sequence()
        return first

    def _sequence(self) -> str:
        out = ""
        while self._peek() not in ("", "|", ")"):
            atom = self._atom()
            low, high = self._repeat()
            times = low
            if high is None and atom and len(out) + len(atom) * low < self._least:
                times = math.ceil((self._least - len(out)) / len(atom))
            out += atom * min(times, _MAX_REPEAT)
        return out

    def _atom(self) -> str:
        char = self._pattern[self._at]
        self._at += 1
        if char in "^$":
            return ""
        if char == ".":
            return "a"
        if char == "\\":
            return self._escape()
        if char == "[":
            return self._set()
        if char == "(":
            if self._pattern.startswith("?:", self._at):
                self._at += 2
            elif self._peek() == "?":
                raise ValueError("look-arounds and named groups")
            inner = self._alternatives()
            self._at += 1
            return inner
        return char

    def _escape(self) -> str:
        char = self._pattern[self._at]
        self._at += 1
        return "" if char in "bB" else self._CLASSES.get(char, char)

    def _set(self) -> str:
        end = self._at
        negated = self._peek() == "^"
        start = end = self._at + negated
        while self._pattern[end] != "]" or end == start:
            end += 2 if self._pattern[end] == "\\" else 1
        body = self._pattern[start:end]
        self._at = end + 1
        if negated:
            compiled = re.compile("[^" + body + "]")
            return next(char for char in "a0A-_ .é" if compiled.match(char))
        if body[0] == "\\":
            return self._CLASSES.get(body[1], body[1])
        return body[0]

    def _repeat(self) -> tuple[int, int | None]:
        low, high = 1, 1
        char = self._peek()
        if char and char in "*+?":
            self._at += 1
            open_end = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
            self._lazy()
            return open_end
        if char == "{" and (found := _COUNTS.match(self._pattern, self._at)):
            self._at = found.end()
            self._lazy()
            low = int(found[1])
            if found[2] is None:
                return low, low
            return low, int(found[3]) if found[3] else None
        return low, high

    def _lazy(self) -> None:
        if self._peek() and self._peek() in "?+":
            self._at += 1

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]


_COUNTS = re.compile(r"\{(\d{1,6})(,(\d{0,6}))?\}")
