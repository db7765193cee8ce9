"""What ``asgi-llm serve`` says when it starts: what it serves, where, and what to try first."""

from __future__ import annotations

import json
import shlex

import asgi_llm
from asgi_llm.gateway._layer_definitions import AuthDefinition
from asgi_llm.gateway._listing import columns
from asgi_llm.gateway._provider_definitions import (
    AzureDefinition,
    EchoDefinition,
    LiteLLMDefinition,
    LocalEmbeddingsDefinition,
    ProviderDefinition,
)
from asgi_llm.gateway.build import Build
from asgi_llm.gateway.config import Loaded, authenticates, find_cost, shown_database
from asgi_llm.providers._native import NativeFormat
from asgi_llm.providers._passthrough import OpenAIFormat
from asgi_llm.providers.base import Provider

__all__ = ["first_model", "welcome"]

_SHOWN_ALIASES = 12


def welcome(loaded: Loaded, build: Build, *, url: str, workers: int, exposed: bool) -> str:
    """The text for people; ends with a line end.

    Args:
        loaded: The configuration.
        build: What was made of it.
        url: Where the gateway is, without a slash at the end.
        workers: How many processes serve.
        exposed: Whether other machines can reach it, and callers are not authenticated.
    """
    lines = [f"asgi-llm {asgi_llm.__version__}", ""]
    lines += _facts(loaded, url, workers)
    lines += ["", "Providers"]
    lines += columns(
        ("  " + name, _where(definition, build.providers[name]), f"as {_example(name, build)}")
        for name, definition in loaded.configuration.providers.items()
    )
    if list(loaded.configuration.providers) == ["echo"] and loaded.discovered:
        lines.append("  Set OPENAI_API_KEY, or the key of another known provider, for more.")
    if build.models:
        lines += ["", "Models"]
        aliases = list(build.models.items())
        lines += columns(
            ("  " + alias, f"{target.provider}/{target.model}")
            for alias, target in aliases[:_SHOWN_ALIASES]
        )
        if len(aliases) > _SHOWN_ALIASES:
            lines.append(f"  and {len(aliases) - _SHOWN_ALIASES} more: asgi-llm models")
    keyed = authenticates(loaded.configuration)
    lines += ["", "Try it", *_curl(url, first_model(build), keyed=keyed)]
    if keyed and _has_database(loaded):
        lines += ["  A key is made by: asgi-llm keys create --name NAME" + _config_option(loaded)]
    notes = list(loaded.notes)
    if exposed:
        notes.append("Callers are not authenticated, and other machines can reach this address.")
    if notes:
        lines += ["", "Notes", *(f"  {note}" for note in notes)]
    lines += ["", "Press Ctrl+C to stop."]
    return "\n".join(lines) + "\n"


def first_model(build: Build) -> str:
    """A name to try: an alias, else an offline model, else one of a provider that has any."""
    for alias in build.models:
        return alias
    ordered = sorted(
        build.providers.values(), key=lambda one: (one.provider_name != "echo", not one.models)
    )
    return _example(ordered[0].name, build)


def _facts(loaded: Loaded, url: str, workers: int) -> list[str]:
    if loaded.source is not None:
        origin = loaded.source
    else:
        origin = "no file; providers whose keys are in the environment"
    facts = [("Serving", f"{url}/v1")]
    if loaded.configuration.server.docs:
        facts.append(("Docs", f"{url}/docs"))
    facts += [("Health", f"{url}/health"), ("Config", origin)]
    cost = find_cost(loaded.configuration)
    if cost is not None and cost.ledger.enabled:
        facts.append(
            ("Ledger", f"{shown_database(loaded.configuration)}: what each call used and cost")
        )
    if workers > 1:
        facts.append(("Workers", str(workers)))
    return columns(facts)


def _where(definition: ProviderDefinition, provider: Provider) -> str:
    match definition:
        case AzureDefinition():
            return definition.endpoint
        case EchoDefinition():
            return "offline, needs no key"
        case LiteLLMDefinition():
            return "through litellm"
        case LocalEmbeddingsDefinition():
            return f"in this process, {definition.model}"
    return provider.base_url if isinstance(provider, NativeFormat | OpenAIFormat) else ""


def _example(name: str, build: Build) -> str:
    models = build.providers[name].models
    return f"{name}/{models[0] if models else 'MODEL'}"


def _has_database(loaded: Loaded) -> bool:
    return any(
        isinstance(layer, AuthDefinition) and layer.database for layer in loaded.configuration.stack
    )


def _config_option(loaded: Loaded) -> str:
    return f" --config {shlex.quote(loaded.source)}" if loaded.source else ""


def _curl(url: str, model: str, *, keyed: bool) -> list[str]:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    return [
        f"  curl {url}/v1/chat/completions \\",
        *(["    -H 'Authorization: Bearer YOUR_KEY' \\"] if keyed else []),
        "    -H 'Content-Type: application/json' \\",
        f"    -d '{json.dumps(body)}'",
    ]
