"""What is known of Bedrock's models by their names, to refine what is told to them.

A name that is not known here, such as that of an application's own inference profile, is taken for
a model that has everything.

Source: Amazon Bedrock User Guide, "Get validated JSON results from models" and "Inference request
parameters and response fields"; November 2026.
"""

from __future__ import annotations

import functools
import re
from typing import Final

import msgspec

from asgi_llm.providers._anthropic_models import ModelTraits, model_traits

__all__ = ["BedrockTraits", "bedrock_traits"]

_CLAUDE: Final = re.compile(r"anthropic\.|claude")
_NOVA: Final = "amazon.nova"
_WITHOUT_SCHEMAS: Final = re.compile(
    r"(?:^|[./])(?:ai21|amazon|cohere|meta|writer)\.|deepseek\.r1"
    r"|mistral\.(?:mistral-7b|mistral-large-24|mistral-small|mixtral|pixtral)"
)


class BedrockTraits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one model takes.

    Attributes:
        claude: What is known of it, where it is one of Anthropic's.
        is_nova: It is one of Amazon's Nova models.
        has_schemas: It can be held to a JSON Schema, in answers and in calls.
    """

    claude: ModelTraits | None
    is_nova: bool
    has_schemas: bool


@functools.lru_cache(maxsize=256)
def bedrock_traits(model: str) -> BedrockTraits:
    """What the model with this name takes."""
    claude = model_traits(model) if _CLAUDE.search(model) else None
    return BedrockTraits(
        claude=claude,
        is_nova=_NOVA in model,
        has_schemas=claude.has_schemas
        if claude is not None
        else _WITHOUT_SCHEMAS.search(model) is None,
    )
