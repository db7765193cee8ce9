"""The keys of providers, and what else the variables of their own tools say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from asgi_llm.gateway._definition_types import Secret
from asgi_llm.gateway._definitions import Configuration
from asgi_llm.gateway._environment import key_for, option_for
from asgi_llm.gateway._provider_definitions import (
    AzureDefinition,
    BedrockDefinition,
    CompatibleDefinition,
    KeyedDefinition,
    OllamaDefinition,
    OpenAIDefinition,
    ProviderDefinition,
    VertexDefinition,
)
from asgi_llm.providers.capabilities import PROVIDER_TYPES
from asgi_llm.providers.compatible import COMPATIBLE

__all__ = ["missing_key", "missing_options", "with_keys"]


def _takes_well_known_key(provider: ProviderDefinition) -> bool:
    """Whether the key may come from the variable of the provider's own tools.

    That key goes to its own provider only: where a ``base_url`` leads elsewhere, it stays home.
    """
    match provider:
        case AzureDefinition():
            return provider.api_key is None
        case OpenAIDefinition():
            return provider.api_key is None and provider.base_url is None
        case CompatibleDefinition():
            own = provider.base_url is None or COMPATIBLE[provider.type].base_url is None
            return provider.api_key is None and own
        case BedrockDefinition() if provider.access_key_id or provider.profile:
            return False
        case OllamaDefinition():
            # A key is for Ollama's cloud; a server of one's own has none.
            host = urlsplit(provider.base_url or "").hostname
            return provider.api_key is None and host == "ollama.com"
        case KeyedDefinition():
            return provider.api_key is None and provider.base_url is None
    return False


def missing_key(provider: ProviderDefinition, environ: Mapping[str, str]) -> str | None:
    """What to say of a key that ``provider`` needs and does not have."""
    row = PROVIDER_TYPES[provider.type]
    if not row.needs_key:
        return None
    if _takes_well_known_key(provider):
        if key_for(provider.type, environ) is None:
            return f"the key is missing, and {' or '.join(row.key_variables)} is not set"
    elif isinstance(provider, KeyedDefinition) and provider.api_key is None:
        return "the key is missing; for a base_url it has to be given"
    return None


def missing_options(
    provider: ProviderDefinition, environ: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Options that ``provider`` needs and does not have, and the variable that could hold each."""
    if isinstance(provider, VertexDefinition) and (
        provider.api_key or provider.service_account_file
    ):
        return  # either says whose project it is
    row = PROVIDER_TYPES[provider.type]
    for option in row.needs:
        if getattr(provider, option) is None and not option_for(provider.type, option, environ):
            yield option, " or ".join(row.variables[option])


def with_keys(configuration: Configuration, environ: Mapping[str, str]) -> Configuration:
    """``configuration`` with what the variables of the providers' own tools say."""
    providers = dict(configuration.providers)
    for name, provider in providers.items():
        added: dict[str, Any] = {}
        key = key_for(provider.type, environ) if _takes_well_known_key(provider) else None
        if key is not None:
            added["api_key"] = Secret(key)
        for option in PROVIDER_TYPES[provider.type].variables:
            if isinstance(provider, VertexDefinition) and provider.api_key:
                break  # express mode has no other options
            value = option_for(provider.type, option, environ)
            if value is not None and getattr(provider, option) is None:
                added[option] = value
        if added:
            providers[name] = replace(provider, **added)
    return replace(configuration, providers=providers)
