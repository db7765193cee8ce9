"""Where a configuration comes from, and what it says. The one reader of the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any
from urllib.parse import urlsplit

from asgi_llm.gateway._contradictions import contradictions
from asgi_llm.gateway._definition_types import Secret
from asgi_llm.gateway._definitions import Configuration, ModelDefinition
from asgi_llm.gateway._environment import PREFIX, discover, override
from asgi_llm.gateway._layer_definitions import (
    LAYERS,
    AuthDefinition,
    CostDefinition,
    GuardrailsDefinition,
    LayerDefinition,
    TelemetryDefinition,
)
from asgi_llm.gateway._order import misplaced
from asgi_llm.gateway._provider_definitions import (
    AzureDefinition,
    CompatibleDefinition,
    KeyedDefinition,
    OpenAIDefinition,
)
from asgi_llm.gateway._provider_keys import with_keys
from asgi_llm.gateway._router_definitions import FALLBACKS
from asgi_llm.gateway._tree import (
    ConfigurationProblems,
    Items,
    Node,
    Path,
    Place,
    Problem,
    Scalar,
    Table,
    from_python,
    locate,
    path_of,
    path_text,
)
from asgi_llm.gateway._validation import validate
from asgi_llm.gateway._yaml import MAX_BYTES, parse

__all__ = [
    "CONFIG_VARIABLE",
    "DEFAULT_DATABASE",
    "DEFAULT_FILE",
    "Configuration",
    "ConfigurationProblems",
    "Loaded",
    "Secret",
    "authenticates",
    "find_cost",
    "find_file",
    "find_telemetry",
    "hand_down",
    "insecure_by_environment",
    "load",
    "metrics_are_closed",
    "say_workers",
    "shown_database",
]

CONFIG_VARIABLE = "ASGI_LLM_CONFIG"
DEFAULT_FILE = "asgi-llm.yaml"
DEFAULT_DATABASE = "sqlite+aiosqlite:///asgi-llm.db"
INSECURE_VARIABLE = "ASGI_LLM_INSECURE"

Source = Mapping[str, Any] | str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A valid configuration, and where each part of it was written."""

    configuration: Configuration
    source: str | None
    """The file; None for a mapping, and where there was none."""
    discovered: bool
    """Whether the providers were taken from the environment."""
    notes: tuple[str, ...]
    """What a reader should know and need not mend, one line each."""
    node: Node = field(repr=False)

    def problem(self, path: Path, message: str) -> ConfigurationProblems:
        """An error about the value at ``path``, found after loading."""
        return ConfigurationProblems([Problem(locate(self.node, path), path_text(path), message)])

    def path_below(self, path: Path, text: str) -> Path:
        """What a dotted text means below ``path``, by the keys that were written there."""
        node: Node | None = self.node
        for step in path:
            match node:
                case Table() if isinstance(step, str):
                    node = node.items.get(step)
                case Items() if isinstance(step, int):
                    node = node.items[step]
                case _:
                    node = None
        return path_of(node or Scalar(Place(), None), text)


def load(source: Source | None = None, *, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read and check a configuration.

    Args:
        source: A file, or a mapping with the same keys, which is taken as it is: no ``${NAME}``
            and no ``ASGI_LLM__...`` applies to it. None: the file that ``ASGI_LLM_CONFIG`` names,
            or ``asgi-llm.yaml`` in the current directory, or else providers from the environment.
        environ: The environment; the process's own when left out.

    Raises:
        ConfigurationProblems: All that is wrong.
    """
    environ = os.environ if environ is None else environ
    file: str | None = None
    notes: tuple[str, ...] = ()
    discovered = False
    problems: list[Problem] = []
    if isinstance(source, Mapping):
        node = from_python(source, Place())
    else:
        file = find_file(source, environ)
        if file is None:
            node, notes = discover(environ)
            discovered = True
        else:
            node, problems = parse(_read(file), file, environ)
        node = override(node, environ)
    configuration = validate(node, problems)
    problems = list(contradictions(configuration, node, environ))
    if problems:
        raise ConfigurationProblems(problems)
    return Loaded(
        configuration=with_keys(configuration, environ),
        source=file,
        discovered=discovered,
        notes=(*notes, *_notes(configuration, node)),
        node=node,
    )


def say_workers(number: int) -> None:
    """Let ``number`` count here and in worker processes, whatever a file says."""
    os.environ[f"{PREFIX}SERVER__WORKERS"] = str(number)


def hand_down(source: str | None, *, insecure: bool) -> None:
    """Let worker processes load the same file, and take the same risks."""
    if source is not None:
        os.environ[CONFIG_VARIABLE] = source
    os.environ[INSECURE_VARIABLE] = "1" if insecure else "0"


def insecure_by_environment() -> bool:
    """Whether the process that started this one was told ``--insecure``."""
    return os.environ.get(INSECURE_VARIABLE) == "1"


def authenticates(configuration: Configuration) -> bool:
    """Whether nobody gets in without a credential."""
    return any(
        isinstance(layer, AuthDefinition) and layer.mode == "enforce"
        for layer in configuration.stack
    )


def find_telemetry(configuration: Configuration) -> TelemetryDefinition | None:
    """The layer ``telemetry`` of a configuration; None: it has none."""
    return next((one for one in configuration.stack if isinstance(one, TelemetryDefinition)), None)


def metrics_are_closed(configuration: Configuration) -> bool:
    """Whether there are metrics that nobody can read, since nothing says who may."""
    telemetry = find_telemetry(configuration)
    return (
        telemetry is not None
        and not (telemetry.token or telemetry.public)
        and authenticates(configuration)
        and not any(
            isinstance(layer, AuthDefinition) and layer.master_key and layer.master_key.reveal()
            for layer in configuration.stack
        )
    )


def find_cost(configuration: Configuration) -> CostDefinition | None:
    """The layer ``cost`` of a configuration; None: it has none."""
    return next((one for one in configuration.stack if isinstance(one, CostDefinition)), None)


def shown_database(configuration: Configuration) -> str:
    """Which database it is, for people, without what its URL keeps to itself."""
    url = configuration.storage.database
    scheme, _, place = (url.reveal() if url else DEFAULT_DATABASE).partition("://")
    if not scheme.startswith("sqlite"):
        return "PostgreSQL"
    return place.partition("?")[0].removeprefix("/") or "memory"


def find_file(
    source: str | os.PathLike[str] | None, environ: Mapping[str, str] | None = None
) -> str | None:
    """The file that ``load`` reads for ``source``; None: it reads the environment alone."""
    environ = os.environ if environ is None else environ
    if source is not None:
        return os.fspath(source)
    if named := environ.get(CONFIG_VARIABLE):
        return named
    return DEFAULT_FILE if FilePath(DEFAULT_FILE).is_file() else None


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationProblems(
            [Problem(Place(file), "", f"the file cannot be read: {reason}")]
        ) from error


def _notes(configuration: Configuration, node: Node) -> Iterator[str]:
    names = [_layer_name(layer) for layer in configuration.stack]
    for alias, model in configuration.models.items() if "router" not in names else ():
        for key in _unused(model):
            path: Path = ("models", alias, key)
            place = locate(node, path)
            message = "not used without a layer router: the first target is called"
            yield str(Problem(place, path_text(path), message))
    for index, message in misplaced(names, asks_who=_scoped(configuration)):
        path = ("stack", index, names[index])
        yield str(Problem(locate(node, path), path_text(path), message))
    if metrics_are_closed(configuration):
        path = ("stack", names.index("telemetry"), "telemetry")
        message = "nobody may read the metrics: give it a token, or auth a master_key"
        yield str(Problem(locate(node, path), path_text(path), message))
    for name, provider in configuration.providers.items():
        if isinstance(provider, AzureDefinition):
            url = provider.endpoint
        elif isinstance(provider, OpenAIDefinition | CompatibleDefinition | KeyedDefinition):
            url = provider.base_url or ""
        else:
            continue
        if provider.api_key and url.startswith("http://") and not _is_local(url):
            path = ("providers", name)
            message = "the key goes over plain http, which anyone on the way can read"
            yield str(Problem(locate(node, path), path_text(path), message))


def _layer_name(layer: LayerDefinition) -> str:
    return next(name for name, definition in LAYERS.items() if definition is type(layer))


def _scoped(configuration: Configuration) -> set[int]:
    """The layers with guards for some callers alone."""
    return {
        index
        for index, layer in enumerate(configuration.stack)
        if isinstance(layer, GuardrailsDefinition)
        and any(rail.scopes for rail in (*layer.input, *layer.output))
    }


def _unused(model: ModelDefinition) -> Iterator[str]:
    if len(model.targets) > 1:
        yield "targets"
    if model.strategy is not None:
        yield "strategy"
    for key in FALLBACKS:
        if getattr(model, key):
            yield key


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
