"""What a ``tool_choice`` says: whether tools are called, and which."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from asgi_llm.errors import InvalidRequestError

__all__ = ["ToolChoice", "allowed_names", "chosen_name", "read_choice"]


class ToolChoice(msgspec.Struct, kw_only=True, gc=False):
    """Whether tools are called."""

    path: str
    mode: Literal["auto", "none", "required", "named"]
    names: tuple[str, ...] = ()
    """With ``named`` the one tool; with others, unless empty, the only tools that are allowed."""


def read_choice(choice: Any, legacy: Any) -> ToolChoice | None:
    """Which tools are to be called; None: nothing is said.

    Args:
        choice: ``tool_choice``.
        legacy: ``function_call``, the form before tools.

    Raises:
        InvalidRequestError: It cannot be read.
    """
    path = "tool_choice"
    if choice is None:
        if legacy is None:
            return None
        choice, path = legacy, "function_call"
        if isinstance(choice, dict):
            return ToolChoice(path=path, mode="named", names=(choice["name"],))
    if isinstance(choice, str):
        if choice in ("auto", "none", "required"):
            return ToolChoice(path=path, mode=choice)  # type: ignore[arg-type]
        if choice == "any":  # Mistral's word
            return ToolChoice(path=path, mode="required")
        raise InvalidRequestError(
            f'{path}: got {choice!r}, expected "auto", "none", "required" or a tool',
            param=path,
            code="invalid_value",
        )
    if (names := allowed_names(choice, path)) is not None:
        required = choice["allowed_tools"].get("mode") == "required"
        return ToolChoice(path=path, mode="required" if required else "auto", names=names)
    return ToolChoice(path=path, mode="named", names=(chosen_name(choice, path),))


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
