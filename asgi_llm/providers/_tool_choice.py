"""What a ``tool_choice`` that is an object says: one tool, or those that may be called."""

from __future__ import annotations

from typing import Any

from asgi_llm.errors import InvalidRequestError

__all__ = ["allowed_names", "chosen_name"]


def chosen_name(choice: dict[str, Any], path: str) -> str:
    """The name of the one tool that has to be called.

    Raises:
        InvalidRequestError: The choice is of another type.
    """
    kind = choice.get("type", "function")
    if kind != "function":
        raise InvalidRequestError(
            f'{path}.type: got {kind!r}, expected "function" or "allowed_tools"; "auto", "none" '
            f'and "required" stand in place of the object',
            param=f"{path}.type",
            code="invalid_value",
        )
    name: str = choice["function"]["name"]
    return name


def allowed_names(choice: dict[str, Any], path: str) -> tuple[str, ...] | None:
    """The names of the only tools that may be called; None: the choice is of another type.

    Raises:
        InvalidRequestError: There are none, or one of them is told by something else than a name.
    """
    if choice.get("type") != "allowed_tools":
        return None
    path = f"{path}.allowed_tools.tools"
    names: list[str] = []
    for index, tool in enumerate(choice["allowed_tools"]["tools"]):
        kind = tool.get("type", "function")
        named = tool.get(kind) if kind in ("function", "custom") else None
        # The Responses API has the name beside the type.
        name = (named or tool).get("name")
        if name is None:
            where = f"{path}[{index}].type"
            raise InvalidRequestError(
                f"{where}: a tool without a name cannot be told to this provider",
                param=where,
                code="unsupported_tool",
            )
        names.append(name)
    if not names:
        # For the adapters no names at all mean that every tool may be called.
        raise InvalidRequestError(
            f"{path}: got an empty list, expected at least one tool",
            param=path,
            code="invalid_value",
        )
    return tuple(names)
