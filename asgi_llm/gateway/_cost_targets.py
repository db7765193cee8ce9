"""Where a model's name may be served, for the layer that prices it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from asgi_llm.gateway._definitions import Configuration
from asgi_llm.gateway._provider_definitions import ProviderDefinition
from asgi_llm.middleware.cost import CostTarget
from asgi_llm.providers.capabilities import PROVIDER_TYPES

__all__ = ["CostTargets"]


class CostTargets:
    """The targets of a name, as the configuration has them: those that are called first, first.

    Args:
        configuration: Its providers and models count.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._providers = configuration.providers
        self._models = configuration.models

    def __call__(self, name: str) -> Sequence[CostTarget]:
        """The targets and fallbacks of an alias, a provider's own model, or who may know a name."""
        if name in self._models:
            return tuple(self._of_alias(name, set()))
        provider, _, model = name.partition("/")
        if model and provider in self._providers:
            return (self._target(provider, model),)
        if self._models:
            return ()
        # The first that lists it answers; who does is not known before it is asked.
        listing = [key for key, one in self._providers.items() if name in _listed(one)]
        return tuple([self._target(key, name) for key in listing[:1] or self._providers])

    def _of_alias(self, alias: str, seen: set[str]) -> Iterator[CostTarget]:
        seen.add(alias)
        definition = self._models[alias]
        for target in definition.targets:
            yield self._target(target.provider, target.model)
        for other in (
            *definition.fallbacks,
            *definition.context_fallbacks,
            *definition.filter_fallbacks,
        ):
            if other in self._models:
                if other not in seen:
                    yield from self._of_alias(other, seen)
            else:
                provider, _, model = other.partition("/")
                yield self._target(provider, model)

    def _target(self, provider: str, model: str) -> CostTarget:
        definition = self._providers[provider]
        choices = PROVIDER_TYPES[definition.type].capabilities.choices
        return CostTarget(
            provider=provider,
            model=model,
            provider_type=definition.type,
            base_url=getattr(definition, "base_url", None),
            fan_out=choices == "fan_out",
        )


def _listed(definition: ProviderDefinition) -> Sequence[str]:
    """The models that a provider is said to have."""
    return getattr(definition, "models", None) or ()
