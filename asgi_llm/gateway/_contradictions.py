"""What each key of a configuration allows and all of them together do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from asgi_llm.gateway._definitions import Configuration, ModelDefinition
from asgi_llm.gateway._provider_definitions import CompatibleDefinition, ProviderDefinition
from asgi_llm.gateway._provider_keys import missing_key, missing_options
from asgi_llm.gateway._router_definitions import FALLBACKS
from asgi_llm.gateway._tree import Node, Path, Problem, locate, nearest, path_text
from asgi_llm.providers.compatible import COMPATIBLE

__all__ = ["contradictions"]


def contradictions(
    configuration: Configuration, node: Node, environ: Mapping[str, str]
) -> Iterator[Problem]:
    """All of them; ``node`` says where they are."""

    def problem(path: Path, message: str) -> Problem:
        return Problem(locate(node, path), path_text(path), message)

    providers, models = configuration.providers, configuration.models
    if not providers:
        yield problem(("providers",), "no provider is configured; the offline one is {type: echo}")
    for name, provider in providers.items():
        if "/" in name:
            yield problem(("providers", name), "a provider's name cannot hold a slash")
        if message := _missing_url(provider):
            yield problem(("providers", name, "base_url"), message)
        if message := missing_key(provider, environ):
            yield problem(("providers", name, "api_key"), message)
        for option, variable in missing_options(provider, environ):
            yield problem(
                ("providers", name, option), f"the key is missing, and {variable} is not set"
            )
    for alias, model in models.items():
        first, slash, _ = alias.partition("/")
        if slash and first in providers:
            yield problem(("models", alias), f"the name would hide a model of the provider {first}")
        for index, target in enumerate(model.targets):
            if target.provider not in providers:
                hint = nearest(target.provider, providers) or f"; there are {', '.join(providers)}"
                yield problem(
                    ("models", alias, "targets", index, "provider"),
                    f"no provider {target.provider!r} is configured{hint}",
                )
        yield from _wrong_routes(alias, model, configuration, problem)


def _wrong_routes(
    alias: str,
    model: ModelDefinition,
    configuration: Configuration,
    problem: Callable[[Path, str], Problem],
) -> Iterator[Problem]:
    """What an alias says of where its requests go, and cannot be."""
    models = configuration.models
    ids = [f"{target.provider}/{target.model}" for target in model.targets]
    for index, name in enumerate(ids):
        if name in ids[:index]:
            yield problem(
                ("models", alias, "targets", index), f"the target {name} is there already"
            )
    if all(target.weight == 0 for target in model.targets):
        yield problem(("models", alias, "targets", 0, "weight"), "no target has a weight above 0")
    for key in FALLBACKS:
        for index, other in enumerate(getattr(model, key)):
            path: Path = ("models", alias, key, index)
            if other not in models:
                provider, _, name = other.partition("/")
                if not name or provider not in configuration.providers:
                    message = f"no model {other!r} is configured{nearest(other, models)}"
                    yield problem(path, message)
            elif other == alias:
                yield problem(path, "a model cannot fall back to itself")


def _missing_url(provider: ProviderDefinition) -> str | None:
    if isinstance(provider, CompatibleDefinition) and provider.base_url is None:
        row = COMPATIBLE[provider.type]
        if row.base_url is None:
            return f"the key is missing: {provider.type} has no address that all accounts share"
    return None
