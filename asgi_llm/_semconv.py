"""OpenTelemetry's words for generative AI, pinned to one revision.

Source: open-telemetry/semantic-conventions-genai, schema 1.44.0 (in development). Only this module
knows the strings, because they are still being renamed.
"""

from __future__ import annotations

from typing import Final, Literal

Operation = Literal[
    "chat",
    "text_completion",
    "embeddings",
    "moderation",
    "image_generation",
    "speech",
    "transcription",
    "rerank",
]
"""Values of ``gen_ai.operation.name``. The convention defines the first three; the others follow
its pattern for endpoints that it does not name yet."""

CHAT: Final = "chat"
TEXT_COMPLETION: Final = "text_completion"
EMBEDDINGS: Final = "embeddings"
MODERATION: Final = "moderation"
IMAGE_GENERATION: Final = "image_generation"
SPEECH: Final = "speech"
TRANSCRIPTION: Final = "transcription"
RERANK: Final = "rerank"
