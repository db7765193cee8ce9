"""Checks a request against its definition, and says in the client's terms what is wrong."""

from __future__ import annotations

import functools
import re
from typing import Any, cast

import msgspec

from asgi_llm._semconv import Operation
from asgi_llm.errors import InvalidRequestError
from asgi_llm.types import Document
from asgi_llm.wire._explain import explain, name_kind
from asgi_llm.wire._fields import MODEL_NAME_LENGTH, MODEL_NAME_PATTERN
from asgi_llm.wire.requests import REQUESTS

__all__ = ["model_name_error", "validate"]

_MODEL_NAME = re.compile(MODEL_NAME_PATTERN)
_DOT_SEGMENT = re.compile(r"(?:^|/)\.\.?(?:/|\Z)")
_convert = msgspec.convert


def validate(operation: Operation, document: Any) -> Document:
    """Check a parsed body; what comes back is the same object, unknown fields and all.

    Args:
        operation: What is asked for.
        document: The parsed JSON, or the fields of a form, whose numbers are still strings.

    Raises:
        InvalidRequestError: ``param`` is the path of the field, ``code`` one of ``missing_field``,
            ``invalid_type``, ``invalid_value``, ``unknown_content_part``.
    """
    if type(document) is not dict:
        raise InvalidRequestError(
            f"The body has to be a JSON object, got {name_kind(document)}.", code="invalid_type"
        )
    definition = REQUESTS[operation]
    try:
        _convert(document, definition, strict=operation != "transcription")
    except msgspec.ValidationError as error:
        raise explain(error, definition, document) from error
    name = document["model"]
    # Long ones are not kept.
    check = model_name_error if len(name) > MODEL_NAME_LENGTH else _remembered_name_error
    problem = check(name)
    if problem is not None:
        raise InvalidRequestError(f"model: {problem}", param="model", code="invalid_value")
    return cast("Document", document)


def model_name_error(name: str) -> str | None:
    r"""What is wrong with a model's name; None: nothing.

    A name that passes may stand in a header, a log line, a metric label and, percent-encoded, in a
    URL's path: at most 256 printable ASCII characters, none of them a space, a quote or one of
    ``\ < > { } % # ? ^``, no path segment of dots, and a letter or digit somewhere.
    """
    if not name:
        return "got an empty string, expected the name of a model"
    if len(name) > MODEL_NAME_LENGTH:
        return f"got {len(name)} characters, expected at most {MODEL_NAME_LENGTH}"
    if _MODEL_NAME.match(name):
        return None
    if _DOT_SEGMENT.search(name):
        return 'got a name with "." or ".." between slashes, expected a plain name'
    if name.isascii() and not any(map(str.isalnum, name)):
        return "got a name without a letter or digit"
    return (
        "got a character that no model name has, expected printable ASCII without spaces, quotes "
        "and any of \\ < > { } % # ? ^"
    )


# The same few names come again and again.
_remembered_name_error = functools.lru_cache(maxsize=1024)(model_name_error)
