"""What a provider and a model are called in price tables. Only these rules; nothing is guessed.

Source: the provider ids of genai-prices 0.2.3 and the ``litellm_provider`` values of LiteLLM's
price file, November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["ModelName", "genai_id", "litellm_ids", "model_names", "split_model"]


class _Ids(NamedTuple):
    genai: str | None
    litellm: tuple[str, ...]


def _same(name: str) -> _Ids:
    return _Ids(name, (name,))


# By provider type of the configuration. A type that is not here is in no table but the overrides,
# and a table's own name of a provider is taken as it is.
_IDS: Final[dict[str, _Ids]] = {
    "anthropic": _same("anthropic"),
    "azure": _Ids("azure", ("azure", "azure_ai", "azure_text")),
    "baseten": _same("baseten"),
    "bedrock": _Ids("aws", ("bedrock", "bedrock_converse", "bedrock_mantle")),
    "cerebras": _same("cerebras"),
    "cohere": _Ids("cohere", ("cohere", "cohere_chat")),
    "dashscope": _Ids(None, ("dashscope",)),
    "deepinfra": _Ids(None, ("deepinfra",)),
    "deepseek": _same("deepseek"),
    "fireworks_ai": _Ids("fireworks", ("fireworks_ai", "fireworks_ai-embedding-models")),
    "friendli": _Ids(None, ("friendliai",)),
    "gemini": _Ids("google", ("gemini",)),
    "groq": _same("groq"),
    "hyperbolic": _Ids(None, ("hyperbolic",)),
    "jina": _Ids(None, ("jina_ai",)),
    "minimax": _same("minimax"),
    "mistral": _same("mistral"),
    "moonshot": _Ids("moonshotai", ("moonshot",)),
    "nebius": _Ids(None, ("nebius",)),
    "novita": _same("novita"),
    "nvidia": _Ids(None, ("nvidia_nim",)),
    "ollama": _Ids(None, ("ollama",)),
    "openai": _Ids("openai", ("openai", "text-completion-openai")),
    "openrouter": _same("openrouter"),
    "perplexity": _same("perplexity"),
    "sambanova": _Ids(None, ("sambanova",)),
    "snowflake": _Ids(None, ("snowflake",)),
    "together_ai": _Ids("together", ("together_ai",)),
    "vertex": _Ids(
        "google",
        (
            "vertex_ai",
            "vertex_ai-language-models",
            "vertex_ai-anthropic_models",
            "vertex_ai-mistral_models",
            "vertex_ai-llama_models",
            "vertex_ai-embedding-models",
        ),
    ),
    "voyage": _Ids("voyageai", ("voyage",)),
    "x_ai": _Ids("x-ai", ("xai",)),
    "zai": _same("zai"),
}

# Other words for the same types: those of OpenTelemetry, of configurations and of the two tables.
_SYNONYMS: Final = {
    "aws": "bedrock",
    "aws.bedrock": "bedrock",
    "azure.ai.openai": "azure",
    "fireworks": "fireworks_ai",
    "gcp.gemini": "gemini",
    "gcp.vertex_ai": "vertex",
    "google": "gemini",
    "mistral_ai": "mistral",
    "moonshotai": "moonshot",
    "together": "together_ai",
    "vertex_ai": "vertex",
    "voyageai": "voyage",
    "x-ai": "x_ai",
    "xai": "x_ai",
}


def genai_id(provider: str) -> str | None:
    """The id of a provider type in genai-prices; None where it has none."""
    ids = _ids(provider)
    return None if ids is None else ids.genai


def litellm_ids(provider: str) -> tuple[str, ...]:
    """The values of ``litellm_provider`` for a provider type."""
    ids = _ids(provider)
    return () if ids is None else ids.litellm


def _ids(provider: str) -> _Ids | None:
    name = provider.lower()
    return _IDS.get(_SYNONYMS.get(name, name))


class ModelName(NamedTuple):
    """A name to look for, and the rule that made it."""

    name: str
    rule: str


_PATH: Final = re.compile(r"^(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/[^/]+/)?models/")
_ARN: Final = re.compile(
    r"^arn:aws[a-z-]*:bedrock:[^:]*:[^:]*:(?:foundation-model|(?:application-)?inference-profile)/"
)
_REGION: Final = re.compile(r"^(?:us|us-gov|eu|apac|ap|au|jp|ca|sa|global)\.(?=[a-z0-9]+\.)")
_AT: Final = re.compile(r"@(?=\d{8}$)")
_AT_ANY: Final = re.compile(r"@[^@/]+$")
_DATE: Final = re.compile(r"-(?:20\d{2}-\d{2}-\d{2}|20\d{6})$")

_RULES: Final = (
    (_PATH, "", "without the path before its name"),
    (_ARN, "", "without the ARN before its name"),
    (_REGION, "", "without Bedrock's region"),
    (_AT, "-", "with a dash for the @ before its date"),
    (_AT_ANY, "", "without the version after @"),
    (_DATE, "", "without its date"),
)


def model_names(model: str) -> Iterator[ModelName]:
    """Names under which a table may have a model, the nearest to what was written first.

    As it is written; in small letters; then, each on top of the last, without a path (``models/``,
    ``publishers/google/models/``), a Bedrock ARN, a Bedrock region (``us.``, ``global.``), with a
    dash for the ``@`` before a date, without what follows an ``@``, and without a date at its end.
    """
    seen = {model}
    yield ModelName(model, "as it is written")
    name = model.lower()
    if name not in seen:
        seen.add(name)
        yield ModelName(name, "in small letters")
    for pattern, replacement, rule in _RULES:
        # Each from the name so far: a dash for the @ leaves a date for the last rule.
        name = pattern.sub(replacement, name, count=1)
        if name and name not in seen:
            seen.add(name)
            yield ModelName(name, rule)


def split_model(model: str) -> tuple[str, str] | None:
    """Provider and model of ``provider/model``; None where no known provider stands before it."""
    provider, slash, rest = model.partition("/")
    return (provider, rest) if slash and rest and _ids(provider) is not None else None
