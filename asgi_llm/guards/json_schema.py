"""Answers that have to be JSON, or JSON of a schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from asgi_llm._json import is_deeper_than
from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Finding, GuardContext, GuardCost

__all__ = ["JsonGuard"]

_DEEPEST: Final = 128
_DEEPEST_SCHEMA: Final = 64
_FENCE: Final = "```"


class JsonGuard:
    """Finds answers that are not JSON, or not of a schema. The finding is about the whole text.

    References of the schema to other documents are refused at construction: nothing is fetched.
    Its regular expressions are checked in linear time.

    Args:
        schema: A JSON Schema; None: any JSON will do.
        objects_only: Only an object will do.
        name: Names it in verdicts.

    Raises:
        ConfigurationError: The schema is wrong or refers to another document, or jsonschema-rs is
            not installed, which only a schema needs.
    """

    cost: ClassVar[GuardCost] = "thread"
    window: ClassVar[int | None] = None

    def __init__(
        self,
        schema: Mapping[str, Any] | bool | None = None,
        *,
        objects_only: bool = False,
        name: str = "json",
    ) -> None:
        self.name = name
        self._objects_only = objects_only
        self._validator: Any = None if schema is None else _compiled(schema)

    def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        """Whether ``text`` is what it has to be."""
        try:
            document = _decoded(text)
        except ValueError as error:
            return (_finding("json.invalid", str(error)),)
        if self._objects_only and not isinstance(document, dict):
            return (_finding("json.schema", "it is no object"),)
        if self._validator is None:
            return ()
        problem = next(iter(self._validator.iter_errors(document)), None)
        if problem is None:
            return ()
        place = "/".join(map(str, problem.schema_path)) or "its root"
        return (_finding("json.schema", f"it does not keep to the schema's {place[:80]}"),)

    def repair(self, text: str, context: GuardContext) -> str | None:
        """``text`` without a fence and words around the JSON, its open brackets closed.

        None where that does not make JSON of it.
        """
        for candidate in _candidates(text):
            try:
                _decoded(candidate)
            except ValueError:
                continue
            return candidate
        return None


def _finding(category: str, reason: str) -> Finding:
    return Finding(start=0, end=0, category=category, reason=reason)


def _decoded(text: str) -> Any:
    """The document; a ValueError says what is wrong, without any of the text."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("it has half a surrogate pair") from error
    try:
        document = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError("it is not valid JSON") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if is_deeper_than(document, _DEEPEST):
        raise ValueError("it is nested too deeply")
    return document


def _compiled(schema: Mapping[str, Any] | bool) -> Any:
    jsonschema_rs = require("jsonschema_rs", extra="guards")
    _refuse_remote(schema, 0)

    def refuse(uri: str) -> Any:
        raise ValueError(f"a schema may not refer to another document: {uri}")

    try:
        return jsonschema_rs.validator_for(
            schema if isinstance(schema, bool) else dict(schema),
            retriever=refuse,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise ConfigurationError(f"schema: it is refused: {error}"[:300], param="schema") from error


def _refuse_remote(value: Any, depth: int) -> None:
    """Raise for a reference that leaves the document, and for nesting beyond sense."""
    if depth > _DEEPEST_SCHEMA:
        raise ConfigurationError("schema: it is nested too deeply", param="schema")
    if isinstance(value, Mapping):
        for key in ("$ref", "$dynamicRef", "$recursiveRef"):
            target = value.get(key)
            if isinstance(target, str) and not target.startswith("#"):
                raise ConfigurationError(
                    "schema: a reference may not leave the document", param="schema"
                )
        for inner in value.values():
            _refuse_remote(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_remote(inner, depth + 1)


def _candidates(text: str) -> list[str]:
    """What of ``text`` may be the JSON that was meant, the likeliest first."""
    text = text.strip()
    found = []
    if _FENCE in text:
        inner = text.partition(_FENCE)[2]
        first, newline, rest = inner.partition("\n")
        if newline and (not first.strip() or first.strip().isalnum()):
            inner = rest
        found.append(inner.rpartition(_FENCE)[0].strip() or inner.strip())
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    if starts:
        start = min(starts)
        end = max(text.rfind("}"), text.rfind("]")) + 1
        if end > start:
            found.append(text[start:end])
        found.append(_closed(text[start:]))
    return found


def _closed(text: str) -> str:
    """``text`` up to its last whole value, and the brackets that are open there closed."""
    open_brackets: list[str] = []
    in_string = escaped = False
    whole, closing = 0, ""
    for place, one in enumerate(text):
        if in_string:
            if escaped:
                escaped = False
            elif one == "\\":
                escaped = True
            elif one == '"':
                in_string = False
        elif one == '"':
            in_string = True
        elif one in "{[":
            open_brackets.append("}" if one == "{" else "]")
            if len(open_brackets) > _DEEPEST:
                return text
        elif one in "}]":
            if not open_brackets or open_brackets.pop() != one:
                return text
            whole, closing = place + 1, "".join(reversed(open_brackets))
            if not open_brackets:
                break
        elif one == "," and open_brackets:
            whole, closing = place, "".join(reversed(open_brackets))
    return text[:whole] + closing
