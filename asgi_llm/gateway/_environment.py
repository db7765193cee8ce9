"""What environment variables say: overrides of single keys, and providers when there is no file."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from asgi_llm.gateway._tree import (
    ConfigurationProblems,
    Items,
    Node,
    Place,
    Problem,
    Scalar,
    Table,
)
from asgi_llm.providers.capabilities import PROVIDER_TYPES, ProviderType
from asgi_llm.providers.compatible import COMPATIBLE

__all__ = ["PREFIX", "Discovery", "discover", "key_for", "option_for", "override"]

PREFIX = "ASGI_LLM__"

# A token that opens much more than models is not sent anywhere unless a file says so.
_GENERAL_TOKENS = frozenset(("GITHUB_TOKEN",))
_AZURE_ENDPOINT = "AZURE_OPENAI_ENDPOINT"
_AZURE_VERSION = "OPENAI_API_VERSION"
_VERTEX_SWITCH = "GOOGLE_GENAI_USE_VERTEXAI"
_OLLAMA_HOST = "OLLAMA_HOST"
_OLLAMA_PORT = 11434


class Discovery(NamedTuple):
    """Providers that the environment has the keys of.

    Attributes:
        node: A configuration with these providers and ``echo``.
        notes: What was found and cannot be used, one sentence each.
    """

    node: Table
    notes: tuple[str, ...]


def key_for(kind: str, environ: Mapping[str, str]) -> str | None:
    """The key of provider type ``kind`` from the variables of its own tools, if one is set."""
    variable = _first_set(PROVIDER_TYPES[kind].key_variables, environ)
    return environ[variable] if variable else None


def option_for(kind: str, option: str, environ: Mapping[str, str]) -> str | None:
    """The value of another option from the variables of the provider's own tools."""
    variable = _first_set(PROVIDER_TYPES[kind].variables[option], environ)
    return environ[variable] if variable else None


def _first_set(variables: Iterable[str], environ: Mapping[str, str]) -> str | None:
    return next((variable for variable in variables if environ.get(variable)), None)


def discover(environ: Mapping[str, str]) -> Discovery:
    """Providers from the well-known variables. ``OPENAI_BASE_URL`` is not among them.

    That one tells clients where to go. Where it names this gateway, which is what one would set it
    to, following it would send each request round in a circle.
    """
    found: dict[str, dict[str, str]] = {"echo": {"type": "echo"}}
    notes: list[str] = []
    for kind, row in PROVIDER_TYPES.items():
        options, missing = _found(kind, row, environ)
        if options is not None and row.requires and not _is_installed(row.requires):
            missing = f"{row.requires} is not installed; run: pip install 'asgi-llm[{kind}]'"
        if missing:
            notes.append(f"{kind} is left out: {missing}.")
        elif options is not None:
            found[kind] = {"type": kind, **options}
    tables: dict[str, Node] = {}
    for name, options in found.items():
        place = Place(_first_set(PROVIDER_TYPES[name].key_variables, environ) or "")
        values: dict[str, Node] = {
            key: Scalar(place, value, quotable=False) for key, value in options.items()
        }
        tables[name] = Table(place, values, dict.fromkeys(values, place))
    nowhere = Place()
    inner = Table(nowhere, tables, {name: node.place for name, node in tables.items()})
    return Discovery(Table(nowhere, {"providers": inner}, {"providers": nowhere}), tuple(notes))


def _found(
    kind: str, row: ProviderType, environ: Mapping[str, str]
) -> tuple[dict[str, str] | None, str]:
    """Options of a provider whose variables are set, or None, or what is missing of them."""
    variable = _first_set(row.key_variables, environ)
    match kind:
        case "azure":
            return _all_of(
                variable, {"endpoint": _AZURE_ENDPOINT, "api_version": _AZURE_VERSION}, environ
            )
        case "bedrock":
            if variable and option_for(kind, "region", environ) is None:
                return None, f"{variable} is set, {row.variables['region'][0]} not"
        case "vertex":
            # Credentials may lie anywhere, so that only this switch says that they are meant.
            switch = environ.get(_VERTEX_SWITCH, "").lower()
            variable = _VERTEX_SWITCH if switch in ("1", "true") else None
            if variable and option_for(kind, "project", environ) is None:
                return None, f"{variable} is set, {row.variables['project'][0]} not"
        case "ollama":
            host = environ.get(_OLLAMA_HOST)
            return ({"base_url": _ollama_url(host)} if host else None), ""
        case _ if kind in COMPATIBLE and (not COMPATIBLE[kind].base_url or _has_native(row)):
            return None, ""
    return ({} if variable and variable not in _GENERAL_TOKENS else None), ""


def _all_of(
    key: str | None, options: dict[str, str], environ: Mapping[str, str]
) -> tuple[dict[str, str] | None, str]:
    if key is None:
        return None, ""
    if missing := [variable for variable in options.values() if not environ.get(variable)]:
        return None, f"{key} is set, {' and '.join(missing)} not"
    return {option: environ[variable] for option, variable in options.items()}, ""


def _has_native(row: ProviderType) -> bool:
    """Whether the same key opens a provider by its own format, which says more."""
    return any(
        set(row.key_variables) & set(other.key_variables)
        for kind, other in PROVIDER_TYPES.items()
        if kind not in COMPATIBLE
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _ollama_url(host: str) -> str:
    """The server's address as Ollama's own tools read it: scheme and port may be left out."""
    scheme, found, rest = host.partition("://")
    if not found:
        scheme, rest = "http", host
    rest = rest.rstrip("/")
    name, colon, port = rest.rpartition(":")
    if not colon or not port.isdigit():
        name, port = rest, "" if found else str(_OLLAMA_PORT)
    if name in ("", "0.0.0.0"):  # noqa: S104 - where a server listens; here it is called
        name = "127.0.0.1"
    return f"{scheme}://{name}:{port}" if port else f"{scheme}://{name}"


def override(node: Node, environ: Mapping[str, str]) -> Node:
    """``node`` with each ``ASGI_LLM__A__B=value`` put at ``a.b``.

    Segments find keys whatever their case, with ``_`` for ``-`` too; a list takes an index, and
    the index after its last is a new item. An empty value is null.

    Raises:
        ConfigurationProblems: Variables that lead nowhere.
    """
    problems: list[Problem] = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        segments = variable.removeprefix(PREFIX).split("__")
        place = Place(variable)
        value = environ[variable]
        if not all(segments):
            problems.append(Problem(place, "", "expected names between double underscores"))
            continue
        try:
            given = Scalar(place, value or None, plain=True, quotable=False)
            node = _put(node, segments, given, "")
        except _LeadsNowhereError as error:
            problems.append(Problem(place, "", str(error)))
    if problems:
        raise ConfigurationProblems(problems)
    return node


class _LeadsNowhereError(Exception):
    pass


def _put(node: Node | None, segments: list[str], value: Scalar, path: str) -> Node:
    """A copy of ``node`` with ``value`` in it: parts of a tree may be shared through aliases."""
    if not segments:
        return value
    segment, rest = segments[0], segments[1:]
    if isinstance(node, Items):
        if not segment.isdigit() or int(segment[:6]) > len(node.items):
            raise _LeadsNowhereError(
                f"{path} is a list of {len(node.items)}: expected an index, got {segment.lower()}"
            )
        index = int(segment)
        inner = node.items[index] if index < len(node.items) else None
        items = [*node.items[:index], _put(inner, rest, value, f"{path}[{index}]")]
        return Items(node.place, items + node.items[index + 1 :])
    if node is None or (isinstance(node, Scalar) and node.value is None):
        node = Table(value.place, {}, {})
    if isinstance(node, Scalar):
        raise _LeadsNowhereError(f"{path} is a single value, with nothing inside")
    key = next((key for key in node.items if _folded(key) == segment.lower()), segment.lower())
    inner = _put(node.items.get(key), rest, value, f"{path}.{key}" if path else key)
    place = value.place if not rest else node.keys.get(key, value.place)
    return Table(node.place, {**node.items, key: inner}, {**node.keys, key: place})


def _folded(key: str) -> str:
    return key.lower().replace("-", "_")
