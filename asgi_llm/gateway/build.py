"""From a configuration to a gateway: the composition root."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.middleware import Middleware
from starlette.types import Receive, Scope, Send

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._definition_types import Secret, TimeoutsDefinition
from asgi_llm.gateway._definitions import FetchImagesDefinition
from asgi_llm.gateway._layer_definitions import (
    LAYERS,
)
from asgi_llm.gateway._layers import Layers
from asgi_llm.gateway._provider_definitions import (
    OPENAI_URL,
    AzureDefinition,
    CompatibleDefinition,
    EchoDefinition,
    LiteLLMDefinition,
    LocalEmbeddingsDefinition,
    NativeDefinition,
    OpenAIDefinition,
    OpenAIFormatDefinition,
    ProviderDefinition,
    RemoteDefinition,
)
from asgi_llm.gateway._reload_carried import Carried, Hold
from asgi_llm.gateway._reload_watch import file_stamp
from asgi_llm.gateway.compose import Gateway, Resource, compose
from asgi_llm.gateway.config import Loaded, Source, load
from asgi_llm.gateway.health import Health
from asgi_llm.gateway.openapi import document
from asgi_llm.gateway.system import SystemMiddleware
from asgi_llm.providers.app import FetchImages, ProviderApp
from asgi_llm.providers.azure import Azure
from asgi_llm.providers.base import Provider
from asgi_llm.providers.capabilities import PROVIDER_TYPES
from asgi_llm.providers.compatible import compatible
from asgi_llm.providers.echo import Echo
from asgi_llm.providers.openai import OpenAI
from asgi_llm.transports.base import Timeouts, Transport
from asgi_llm.transports.default import default_transport
from asgi_llm.types import Deployment

__all__ = ["Build", "build", "load_gateway"]


def load_gateway(source: Source | None = None, *, insecure: bool = False) -> Gateway:
    """The gateway that a configuration describes, ready to be served or mounted.

    Args:
        source: A YAML file, or a mapping with the same keys. None: the file that
            ``ASGI_LLM_CONFIG`` names, or ``asgi-llm.yaml`` in the current directory, or else the
            providers whose keys are in the environment.
        insecure: Take keys that are easily guessed.

    Raises:
        ConfigurationError: One line for each thing that is wrong.
    """
    return build(load(source), insecure=insecure).gateway


class Build:
    """A gateway and what it is made of.

    Attributes:
        gateway: The composition.
        providers: The adapters, by name.
        models: The aliases.
    """

    def __init__(
        self,
        gateway: Gateway,
        providers: Mapping[str, Provider],
        models: Mapping[str, Deployment],
    ) -> None:
        self.gateway = gateway
        self.providers = providers
        self.models = models


def build(loaded: Loaded, *, insecure: bool = False, hold: Hold | None = None) -> Build:
    """Put a loaded configuration together. Opens no connection.

    Args:
        loaded: The configuration.
        insecure: Take keys that are easily guessed.
        hold: Gives what an earlier build has made already; None: all is made anew.

    Raises:
        ConfigurationError: An adapter or a layer refuses an option; the message says where it
            stands.
    """
    configuration = loaded.configuration
    server = configuration.server
    hold = Carried().hold() if hold is None else hold
    transports = _Transports(server.timeouts, hold)
    providers: dict[str, Provider] = {}
    for name, definition in configuration.providers.items():
        try:
            providers[name] = _provider(name, definition, transports)
        except ConfigurationError as error:
            path = ("providers", name, *((error.param,) if error.param else ()))
            raise loaded.problem(path, error.message) from error
    models: dict[str, Deployment] = {}
    for alias, model in configuration.models.items():
        target = model.targets[0]
        models[alias] = Deployment(
            provider=target.provider,
            model=target.model,
            quirks=frozenset(target.quirks),
            strict=target.strict,
        )
    app = ProviderApp(
        providers.values(),
        models=models,
        capabilities={
            name: PROVIDER_TYPES[definition.type].capabilities.document()
            for name, definition in configuration.providers.items()
        },
        fetch_images=_fetch_images(server.fetch_images),
        transport=transports.shared,
        timeouts=transports.timeouts,
        max_body_bytes=server.max_body_bytes,
        body_timeout_seconds=server.body_timeout_seconds,
        write_timeout_seconds=server.write_timeout_seconds,
    )
    health = Health()
    made = Layers(configuration, health, hold, insecure=insecure)
    layers = []
    for index, layer in enumerate(configuration.stack):
        try:
            layers.append(made.make(layer))
        except ConfigurationError as error:
            raise _placed(error, loaded, index) from error
    describe = partial(document, admin=bool(made.admin), admin_parts=made.admin)
    system = Middleware(SystemMiddleware, health=health, openapi=describe, docs=server.docs)
    try:
        gateway = compose(
            [*layers, system, *made.inside],
            app,
            resources=hold.uses([*made.resources, *transports.opened]),
            health=health,
            openapi=describe,
        )
    except ConfigurationError as error:
        raise _located(error, loaded, layers) from error
    hold.finish()
    return Build(gateway, providers, models)


def _fetch_images(definition: FetchImagesDefinition) -> FetchImages | None:
    options = msgspec.structs.asdict(definition)
    return FetchImages(**options) if options.pop("enabled") else None


def _located(
    error: ConfigurationError, loaded: Loaded, layers: list[Middleware]
) -> ConfigurationError:
    """``error``, with the place of the layer that raised it: the one that does so again."""
    for index, (cls, args, options) in enumerate(layers):
        try:
            cls(_nowhere, *args, **options)
        except ConfigurationError as found:
            return _placed(found, loaded, index)
    return error


def _placed(error: ConfigurationError, loaded: Loaded, index: int) -> ConfigurationError:
    """``error``, with the place of what it is about in the layer at ``index``."""
    kind = type(loaded.configuration.stack[index])
    name = next(name for name, definition in LAYERS.items() if definition is kind)
    layer = ("stack", index, name)
    path = loaded.path_below(layer, error.param or "")
    if path[:1] != ("storage",) or len(path) < 2:
        path = (*layer, *path)
    return loaded.problem(path, error.message.removeprefix(f"{error.param}: "))


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """An app for a layer that is only tried on."""


def _provider(name: str, definition: ProviderDefinition, transports: _Transports) -> Provider:
    match definition:
        case OpenAIDefinition():
            return OpenAI(
                name=name,
                organization=definition.organization,
                project=definition.project,
                models=definition.models,
                base_url=definition.base_url or OPENAI_URL,
                **_remote(definition, transports),
            )
        case AzureDefinition():
            return Azure(
                name=name,
                endpoint=definition.endpoint,
                api_version=definition.api_version,
                api=definition.api,
                deployments=definition.deployments,
                models=definition.models,
                **_remote(definition, transports),
            )
        case CompatibleDefinition():
            return compatible(
                definition.type,
                name=name,
                base_url=definition.base_url,
                models=definition.models,
                **_remote(definition, transports),
            )
        case EchoDefinition():
            return Echo(name=name, chunk_delay_seconds=definition.chunk_delay_seconds)
        case NativeDefinition() | LiteLLMDefinition() | LocalEmbeddingsDefinition():
            return _imported(name, definition, transports)
    raise TypeError(f"no adapter for {definition!r}")


_NOT_OPTIONS = frozenset(("type", "timeouts", "proxy", "ca_file"))


def _imported(
    name: str,
    definition: NativeDefinition | LiteLLMDefinition | LocalEmbeddingsDefinition,
    transports: _Transports,
) -> Provider:
    """The adapter that the type's row names, with what the definition has of its options."""
    module, _, attribute = PROVIDER_TYPES[definition.type].adapter.partition(":")
    # Imported here: only those who configure it pay for it, or have the package that it needs.
    adapter = getattr(importlib.import_module(module), attribute)
    options = {
        option: _revealed(value)
        for option in definition.__struct_fields__
        if option not in _NOT_OPTIONS and (value := getattr(definition, option)) is not None
    }
    if isinstance(definition, RemoteDefinition):
        options["headers"] = list(options["headers"].items())
        options["transport"] = transports.for_provider(definition)
    timeouts = transports.timeouts_of(definition)
    made: Provider = transports.hold.take(
        f"providers.{name}",
        (definition, timeouts, file_stamp(getattr(definition, "ca_file", None))),
        lambda: adapter(name=name, timeouts=timeouts, **options),
    )
    if isinstance(made, Resource):
        transports.opened.append(made)
    return made


def _revealed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _revealed(one) for name, one in value.items()}
    return value.reveal() if isinstance(value, Secret) else value


def _remote(definition: OpenAIFormatDefinition, transports: _Transports) -> dict[str, Any]:
    """The options that all adapters of OpenAI's format share."""
    return {
        "api_key": definition.api_key.reveal() if definition.api_key else None,
        "headers": [(name, value.reveal()) for name, value in definition.headers.items()],
        "quirks": definition.quirks,
        "transport": transports.for_provider(definition),
        "timeouts": transports.timeouts_of(definition),
    }


class _Transports:
    """The connections of one gateway: one pool for all providers that ask for nothing special.

    Attributes:
        timeouts: The default deadlines.
        hold: Where those of an earlier build are.
        shared: The common pool.
        opened: Everything to close.
    """

    def __init__(self, timeouts: TimeoutsDefinition, hold: Hold) -> None:
        self.timeouts = _merged(timeouts, Timeouts())
        self.hold = hold
        self.shared: Transport = hold.take("transport", None, default_transport)
        self.opened: list[Resource] = [self.shared]

    def for_provider(self, definition: RemoteDefinition) -> Transport | None:
        """A transport of the provider's own, or None where the common one will do."""
        transport: Transport | None = None
        if definition.proxy is not None or definition.ca_file is not None:
            proxy = definition.proxy.reveal() if definition.proxy else None
            ca_file = definition.ca_file
            transport = self.hold.take(
                "transport",
                (proxy, ca_file, file_stamp(ca_file)),
                lambda: default_transport(proxy, ca_file=ca_file),
            )
            if transport not in self.opened:
                self.opened.append(transport)
        return transport

    def timeouts_of(
        self, definition: RemoteDefinition | LiteLLMDefinition | LocalEmbeddingsDefinition
    ) -> Timeouts | None:
        """Deadlines of the provider's own, or None where the common ones will do."""
        timeouts = _merged(definition.timeouts, self.timeouts)
        return None if timeouts == self.timeouts else timeouts


def _merged(definition: TimeoutsDefinition, outer: Timeouts) -> Timeouts:
    def choose(name: str) -> float | None:
        value: float | None = getattr(definition, name)
        return getattr(outer, name) if value is UNSET else value  # type: ignore[comparison-overlap]

    return Timeouts(
        connect_seconds=choose("connect_seconds"),
        first_byte_seconds=choose("first_byte_seconds"),
        idle_seconds=choose("idle_seconds"),
        total_seconds=choose("total_seconds"),
    )
