"""Bills that were worked out by hand, from usage bodies as providers send them.

Each line of a bill is a quantity, what one of them costs in USD as the page states it, and per how
many. The prices are those of the page that is named, as genai-prices 0.2.3 and LiteLLM's price file
of November 2026 have them for the bill's day. Each total is the sum of its lines, worked out apart.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from asgi_llm.pricing import Quantities

Reader = Literal["openai", "anthropic", "gemini", "cohere", "none"]

M = 10**6
NOON = datetime(2026, 11, 16, 12, tzinfo=UTC)
NIGHT = datetime(2026, 11, 16, 2, 30, tzinfo=UTC)


class Bill(NamedTuple):
    """One call and what it costs."""

    provider: str
    model: str
    page: str
    """Where the prices are published."""
    price: dict[str, Any] | list[dict[str, Any]]
    """The page's prices, in the shape of an override."""
    read: Reader
    """Whose reader knows the body."""
    usage: dict[str, Any]
    lines: tuple[tuple[int | Decimal, str, int], ...]
    """Quantity, USD, and per how many."""
    total: str
    at: datetime = NOON
    service_tier: str | None = None
    quantities: Quantities = Quantities()
    in_genai: bool = True
    """Whether genai-prices has this price too."""


def openai(
    given: int,
    made: int,
    *,
    cached: int = 0,
    reasoning: int = 0,
    audio_in: int = 0,
    audio_out: int = 0,
    written: int = 0,
) -> dict[str, Any]:
    """A ``usage`` of a chat completion, whose totals hold the parts."""
    details = {"cached_tokens": cached, "audio_tokens": audio_in}
    if written:
        details["cache_write_tokens"] = written
    return {
        "prompt_tokens": given,
        "completion_tokens": made,
        "total_tokens": given + made,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": audio_out,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


OPENAI = "OpenAI, Pricing (platform.openai.com/docs/pricing)"
ANTHROPIC = "Anthropic, Pricing (platform.claude.com/docs/en/about-claude/pricing)"
GEMINI = "Google, Gemini Developer API pricing (ai.google.dev/gemini-api/docs/pricing)"
VERTEX = "Google Cloud, Vertex AI pricing (cloud.google.com/vertex-ai/generative-ai/pricing)"
BEDROCK = "AWS, Amazon Bedrock pricing (aws.amazon.com/bedrock/pricing)"
DEEPSEEK = "DeepSeek, Models & Pricing (api-docs.deepseek.com/quick_start/pricing)"
MISTRAL = "Mistral AI, Pricing (docs.mistral.ai/inference/pricing)"
COHERE = "Cohere, Pricing (cohere.com/pricing)"
GROQ = "Groq, On-demand pricing (groq.com/pricing)"
XAI = "xAI, Models and Pricing (docs.x.ai/docs/models)"
PERPLEXITY = "Perplexity, Pricing (docs.perplexity.ai/getting-started/pricing)"
MOONSHOT = "Moonshot AI, Pricing (platform.moonshot.ai/docs/pricing/chat)"
OPENROUTER = "OpenRouter, model page of anthropic/claude-haiku-4.5"
VOYAGE = "Voyage AI, Pricing (docs.voyageai.com/docs/pricing)"

GPT_4O = {"input": "2.5", "input_cached": "1.25", "output": "10"}
GPT_4O_MINI = {"input": "0.15", "input_cached": "0.075", "output": "0.6"}
GPT_5 = {
    "input": "1.25",
    "input_cached": "0.125",
    "output": "10",
    "service_tiers": {
        "flex": {"input": "0.625", "input_cached": "0.0625", "output": "5"},
        "priority": {"input": "2.5", "input_cached": "0.25", "output": "20"},
        "batch": {"multiplier": "0.5"},
    },
}
GPT_55 = {
    "input": "5",
    "input_cached": "0.5",
    "output": "30",
    "context_tiers": [{"above": 272_000, "input": "10", "input_cached": "1", "output": "45"}],
    "service_tiers": {"priority": {"input": "12.5", "input_cached": "1.25", "output": "75"}},
}
SONNET_45 = {
    "input": "3",
    "input_cached": "0.3",
    "cache_write_5m": "3.75",
    "cache_write_1h": "6",
    "output": "15",
    "per_thousand_web_searches": "10",
    "context_tiers": [
        {
            "above": 200_000,
            "input": "6",
            "input_cached": "0.6",
            "cache_write_5m": "7.5",
            "cache_write_1h": "12",
            "output": "22.5",
        }
    ],
    "service_tiers": {"batch": {"multiplier": "0.5"}},
}
HAIKU_45 = {
    "input": "1",
    "input_cached": "0.1",
    "cache_write_5m": "1.25",
    "cache_write_1h": "2",
    "output": "5",
    "per_thousand_web_searches": "10",
}
OPUS_47 = {
    "input": "5",
    "input_cached": "0.5",
    "cache_write_5m": "6.25",
    "cache_write_1h": "10",
    "output": "25",
}
OPUS_48_FAST = {
    **OPUS_47,
    "service_tiers": {"fast": {"multiplier": "2"}},
}
GEMINI_25_PRO = {
    "input": "1.25",
    "input_cached": "0.125",
    "output": "10",
    "context_tiers": [{"above": 200_000, "input": "2.5", "input_cached": "0.25", "output": "15"}],
}
GEMINI_25_FLASH = {"input": "0.3", "input_cached": "0.03", "audio_in": "1", "output": "2.5"}
DEEPSEEK_FLASH = [
    {"input": "0.15", "input_cached": "0.003", "output": "0.6"},
    {"input": "0.3", "input_cached": "0.006", "output": "1.2", "hours": "01:00-04:00"},
    {"input": "0.3", "input_cached": "0.006", "output": "1.2", "hours": "06:00-10:00"},
]
GROK_43 = {
    "input": "1.25",
    "input_cached": "0.2",
    "output": "2.5",
    "context_tiers": [
        {"above": 199_999, "input": "2.5", "input_cached": "0.4", "output": "5"},
    ],
}


def gemini(
    given: int, made: int, *, thoughts: int = 0, cached: int = 0, audio: int = 0, tools: int = 0
) -> dict[str, Any]:
    """A ``usageMetadata``, whose candidates leave out the thoughts."""
    counts: dict[str, Any] = {
        "promptTokenCount": given,
        "candidatesTokenCount": made,
        "totalTokenCount": given + made + thoughts + tools,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": given - audio}],
    }
    if audio:
        counts["promptTokensDetails"].append({"modality": "AUDIO", "tokenCount": audio})
    if thoughts:
        counts["thoughtsTokenCount"] = thoughts
    if cached:
        counts["cachedContentTokenCount"] = cached
    if tools:
        counts["toolUsePromptTokenCount"] = tools
    return counts


BILLS: dict[str, Bill] = {
    # OpenAI
    "gpt-4o, a chat": Bill(
        "openai",
        "gpt-4o",
        OPENAI,
        GPT_4O,
        "openai",
        openai(1117, 46),
        ((1117, "2.5", M), (46, "10", M)),
        "0.0032525",
    ),
    "gpt-4o, a cached prompt": Bill(
        "openai",
        "gpt-4o-2024-11-20",
        OPENAI,
        GPT_4O,
        "openai",
        openai(2006, 300, cached=1920),
        ((86, "2.5", M), (1920, "1.25", M), (300, "10", M)),
        "0.005615",
    ),
    "gpt-4o-mini, all of it cached": Bill(
        "openai",
        "gpt-4o-mini",
        OPENAI,
        GPT_4O_MINI,
        "openai",
        openai(1024, 1, cached=1024),
        ((1024, "0.075", M), (1, "0.6", M)),
        "0.0000774",
    ),
    "gpt-4o-mini, nothing made": Bill(
        "openai",
        "gpt-4o-mini",
        OPENAI,
        GPT_4O_MINI,
        "openai",
        openai(13, 0),
        ((13, "0.15", M),),
        "0.00000195",
    ),
    "o3, reasoning is output": Bill(
        "openai",
        "o3",
        OPENAI,
        {"input": "2", "input_cached": "0.5", "output": "8"},
        "openai",
        openai(75, 1186, reasoning=1024),
        ((75, "2", M), (162, "8", M), (1024, "8", M)),
        "0.009638",
    ),
    "o3, before its price fell": Bill(
        "openai",
        "o3",
        OPENAI,
        {"input": "10", "input_cached": "0.5", "output": "40", "valid_to": "2025-06-10"},
        "openai",
        openai(75, 1186, reasoning=1024),
        ((75, "10", M), (162, "40", M), (1024, "40", M)),
        "0.04819",
        at=datetime(2025, 6, 9, 23, 59, tzinfo=UTC),
    ),
    "gpt-5, standard": Bill(
        "openai",
        "gpt-5",
        OPENAI,
        GPT_5,
        "openai",
        openai(5000, 700, cached=4096, reasoning=512),
        ((904, "1.25", M), (4096, "0.125", M), (188, "10", M), (512, "10", M)),
        "0.008642",
        service_tier="default",
    ),
    "gpt-5, flex": Bill(
        "openai",
        "gpt-5",
        OPENAI,
        GPT_5,
        "openai",
        openai(5000, 700, cached=4096, reasoning=512),
        ((904, "0.625", M), (4096, "0.0625", M), (188, "5", M), (512, "5", M)),
        "0.004321",
        service_tier="flex",
    ),
    "gpt-5, priority": Bill(
        "openai",
        "gpt-5",
        OPENAI,
        GPT_5,
        "openai",
        openai(5000, 700, cached=4096, reasoning=512),
        ((904, "2.5", M), (4096, "0.25", M), (188, "20", M), (512, "20", M)),
        "0.017284",
        service_tier="priority",
    ),
    "gpt-5, batch": Bill(
        "openai",
        "gpt-5",
        OPENAI,
        GPT_5,
        "openai",
        openai(5000, 700, cached=4096, reasoning=512),
        ((904, "0.625", M), (4096, "0.0625", M), (188, "5", M), (512, "5", M)),
        "0.004321",
        service_tier="batch",
    ),
    "gpt-5.5, at the threshold": Bill(
        "openai",
        "gpt-5.5",
        OPENAI,
        GPT_55,
        "openai",
        openai(272_000, 1000, cached=200_000),
        ((72_000, "5", M), (200_000, "0.5", M), (1000, "30", M)),
        "0.49",
    ),
    "gpt-5.5, one token above it": Bill(
        "openai",
        "gpt-5.5",
        OPENAI,
        GPT_55,
        "openai",
        openai(272_001, 1000, cached=200_000),
        ((72_001, "10", M), (200_000, "1", M), (1000, "45", M)),
        "0.96501",
    ),
    "gpt-5.5, priority has one size": Bill(
        "openai",
        "gpt-5.5",
        OPENAI,
        GPT_55,
        "openai",
        openai(300_000, 10),
        ((300_000, "12.5", M), (10, "75", M)),
        "3.75075",
        service_tier="priority",
    ),
    "gpt-5.6-luna, cache writes": Bill(
        "openai",
        "gpt-5.6-luna",
        OPENAI,
        {"input": "0.2", "input_cached": "0.02", "cache_write_5m": "0.25", "output": "1.2"},
        "openai",
        openai(9000, 120, cached=3072, written=4096),
        ((1832, "0.2", M), (3072, "0.02", M), (4096, "0.25", M), (120, "1.2", M)),
        "0.00159584",
    ),
    "gpt-4o-realtime, text and audio": Bill(
        "openai",
        "gpt-4o-realtime-preview",
        OPENAI,
        {"input": "5", "input_cached": "2.5", "audio_in": "40", "output": "20", "audio_out": "80"},
        "openai",
        openai(280, 150, cached=64, audio_in=116, audio_out=110),
        ((100, "5", M), (64, "2.5", M), (116, "40", M), (40, "20", M), (110, "80", M)),
        "0.0149",
    ),
    "gpt-4o-transcribe, tokens of audio": Bill(
        "openai",
        "gpt-4o-transcribe",
        OPENAI,
        {"input": "2.5", "audio_in": "6", "output": "10"},
        "openai",
        {
            "type": "tokens",
            "input_tokens": 214,
            "output_tokens": 45,
            "total_tokens": 259,
            "input_token_details": {"text_tokens": 14, "audio_tokens": 200},
        },
        ((14, "2.5", M), (200, "6", M), (45, "10", M)),
        "0.001685",
    ),
    "whisper-1, a duration": Bill(
        "openai",
        "whisper-1",
        OPENAI,
        {"per_audio_hour": "0.36"},
        "none",
        {"type": "duration", "seconds": 95},
        ((95, "0.006", 60),),
        "0.0095",
        quantities=Quantities(audio_seconds=95),
    ),
    "tts-1, characters": Bill(
        "openai",
        "tts-1",
        OPENAI,
        {"per_million_characters": "15"},
        "none",
        {},
        ((4096, "15", M),),
        "0.06144",
        quantities=Quantities(characters=4096),
    ),
    "gpt-image-1, images in and out": Bill(
        "openai",
        "gpt-image-1",
        OPENAI,
        {"input": "5", "input_cached": "1.25", "image_in": "10", "output": "40"},
        "openai",
        {
            "input_tokens": 373,
            "output_tokens": 1056,
            "total_tokens": 1429,
            "input_tokens_details": {"text_tokens": 50, "image_tokens": 323},
        },
        ((50, "5", M), (323, "10", M), (1056, "40", M)),
        "0.04572",
        quantities=Quantities(images=1, image_tokens_in=323),
    ),
    "dall-e-3, by the image": Bill(
        "openai",
        "dall-e-3",
        OPENAI,
        {"per_image": "0.04"},
        "none",
        {},
        ((3, "0.04", 1),),
        "0.12",
        quantities=Quantities(images=3),
        in_genai=False,
    ),
    "text-embedding-3-small": Bill(
        "openai",
        "text-embedding-3-small",
        OPENAI,
        {"input": "0.02"},
        "openai",
        {"prompt_tokens": 8191, "total_tokens": 8191},
        ((8191, "0.02", M),),
        "0.00016382",
    ),
    "o3, by the Responses API": Bill(
        "openai",
        "o3",
        OPENAI,
        {"input": "2", "input_cached": "0.5", "output": "8"},
        "openai",
        {
            "input_tokens": 328,
            "input_tokens_details": {"cached_tokens": 128},
            "output_tokens": 90,
            "output_tokens_details": {"reasoning_tokens": 64},
            "total_tokens": 418,
        },
        ((200, "2", M), (128, "0.5", M), (26, "8", M), (64, "8", M)),
        "0.001184",
    ),
    "gpt-4o, by the name of an Azure model": Bill(
        "azure",
        "gpt-4o",
        "Microsoft, Azure OpenAI Service pricing, Global",
        GPT_4O,
        "openai",
        openai(500, 100, cached=128),
        ((372, "2.5", M), (128, "1.25", M), (100, "10", M)),
        "0.00209",
    ),
    # Anthropic
    "claude-sonnet-4-5, a message": Bill(
        "anthropic",
        "claude-sonnet-4-5-20250929",
        ANTHROPIC,
        SONNET_45,
        "anthropic",
        {"input_tokens": 21, "output_tokens": 305},
        ((21, "3", M), (305, "15", M)),
        "0.004638",
    ),
    "claude-sonnet-4-5, a cache of five minutes is written": Bill(
        "anthropic",
        "claude-sonnet-4-5",
        ANTHROPIC,
        SONNET_45,
        "anthropic",
        {
            "input_tokens": 4,
            "cache_creation_input_tokens": 6074,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 6074, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 120,
        },
        ((4, "3", M), (6074, "3.75", M), (120, "15", M)),
        "0.0245895",
    ),
    "claude-sonnet-4-5, both caches are written, one is read": Bill(
        "anthropic",
        "claude-sonnet-4-5",
        ANTHROPIC,
        SONNET_45,
        "anthropic",
        {
            "input_tokens": 2048,
            "cache_creation_input_tokens": 556,
            "cache_read_input_tokens": 1800,
            "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100},
            "output_tokens": 503,
            "service_tier": "standard",
        },
        (
            (2048, "3", M),
            (1800, "0.3", M),
            (456, "3.75", M),
            (100, "6", M),
            (503, "15", M),
        ),
        "0.016539",
        service_tier="standard",
    ),
    "claude-sonnet-4-5, a long prompt by what was cached": Bill(
        "anthropic",
        "claude-sonnet-4-5",
        ANTHROPIC,
        SONNET_45,
        "anthropic",
        {
            "input_tokens": 10,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 199_991,
            "output_tokens": 1000,
        },
        ((10, "6", M), (199_991, "0.6", M), (1000, "22.5", M)),
        "0.1425546",
    ),
    "claude-sonnet-4-5, batch": Bill(
        "anthropic",
        "claude-sonnet-4-5",
        ANTHROPIC,
        SONNET_45,
        "anthropic",
        {
            "input_tokens": 1000,
            "cache_creation_input_tokens": 2000,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 2000},
            "cache_read_input_tokens": 0,
            "output_tokens": 400,
            "service_tier": "batch",
        },
        ((1000, "1.5", M), (2000, "3", M), (400, "7.5", M)),
        "0.0105",
        service_tier="batch",
    ),
    "claude-haiku-4-5, with web searches": Bill(
        "anthropic",
        "claude-haiku-4-5-20251001",
        ANTHROPIC,
        HAIKU_45,
        "anthropic",
        {
            "input_tokens": 12_345,
            "output_tokens": 678,
            "server_tool_use": {"web_search_requests": 3},
        },
        ((12_345, "1", M), (678, "5", M), (3, "10", 1000)),
        "0.045735",
        quantities=Quantities(web_searches=3),
    ),
    "claude-opus-4-7, thoughts are output": Bill(
        "anthropic",
        "claude-opus-4-7",
        ANTHROPIC,
        OPUS_47,
        "anthropic",
        {
            "input_tokens": 40,
            "output_tokens": 900,
            "output_tokens_details": {"thinking_tokens": 650},
        },
        ((40, "5", M), (250, "25", M), (650, "25", M)),
        "0.0227",
    ),
    "claude-opus-4-8, fast": Bill(
        "anthropic",
        "claude-opus-4-8",
        ANTHROPIC,
        OPUS_48_FAST,
        "anthropic",
        {"input_tokens": 100, "cache_read_input_tokens": 5000, "output_tokens": 200},
        ((100, "10", M), (5000, "1", M), (200, "50", M)),
        "0.016",
        service_tier="fast",
    ),
    # Gemini and Vertex AI
    "gemini-2.5-pro, with thoughts": Bill(
        "gemini",
        "gemini-2.5-pro",
        GEMINI,
        GEMINI_25_PRO,
        "gemini",
        gemini(1200, 300, thoughts=850),
        ((1200, "1.25", M), (300, "10", M), (850, "10", M)),
        "0.013",
    ),
    "gemini-2.5-pro, at the threshold": Bill(
        "gemini",
        "models/gemini-2.5-pro",
        GEMINI,
        GEMINI_25_PRO,
        "gemini",
        gemini(200_000, 100, cached=50_000),
        ((150_000, "1.25", M), (50_000, "0.125", M), (100, "10", M)),
        "0.19475",
    ),
    "gemini-2.5-pro, above it": Bill(
        "gemini",
        "gemini-2.5-pro",
        GEMINI,
        GEMINI_25_PRO,
        "gemini",
        gemini(200_001, 100, cached=50_000, thoughts=7),
        ((150_001, "2.5", M), (50_000, "0.25", M), (100, "15", M), (7, "15", M)),
        "0.3891075",
    ),
    "gemini-2.5-flash, audio": Bill(
        "gemini",
        "gemini-2.5-flash",
        GEMINI,
        GEMINI_25_FLASH,
        "gemini",
        gemini(1032, 20, audio=1024, thoughts=33),
        ((8, "0.3", M), (1024, "1", M), (20, "2.5", M), (33, "2.5", M)),
        "0.0011589",
    ),
    "gemini-2.5-flash, what a tool put into the prompt": Bill(
        "gemini",
        "gemini-2.5-flash",
        GEMINI,
        GEMINI_25_FLASH,
        "gemini",
        gemini(12, 40, tools=5012, thoughts=100),
        ((5024, "0.3", M), (40, "2.5", M), (100, "2.5", M)),
        "0.0018572",
    ),
    "gemini-2.5-flash-image, an image": Bill(
        "gemini",
        "gemini-2.5-flash-image",
        GEMINI,
        {"input": "0.3", "output": "2.5", "image_out": "30"},
        "gemini",
        gemini(14, 1302),
        ((14, "0.3", M), (12, "2.5", M), (1290, "30", M)),
        "0.0387342",
        quantities=Quantities(images=1, image_tokens_out=1290),
    ),
    "claude-sonnet-4-5, at Vertex AI": Bill(
        "vertex",
        "claude-sonnet-4-5@20250929",
        VERTEX,
        {k: v for k, v in SONNET_45.items() if k != "per_thousand_web_searches"},
        "anthropic",
        {"input_tokens": 1500, "cache_read_input_tokens": 500, "output_tokens": 250},
        ((1500, "3", M), (500, "0.3", M), (250, "15", M)),
        "0.0084",
    ),
    # Bedrock
    "claude-haiku-4-5, at Bedrock in a region": Bill(
        "bedrock",
        "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        BEDROCK,
        {
            "input": "1.1",
            "input_cached": "0.11",
            "cache_write_5m": "1.375",
            "cache_write_1h": "2.2",
            "output": "5.5",
        },
        "anthropic",
        {
            "input_tokens": 1000,
            "cache_creation_input_tokens": 2000,
            "cache_creation": {"ephemeral_5m_input_tokens": 2000, "ephemeral_1h_input_tokens": 0},
            "cache_read_input_tokens": 3000,
            "output_tokens": 100,
        },
        ((1000, "1.1", M), (3000, "0.11", M), (2000, "1.375", M), (100, "5.5", M)),
        "0.00473",
    ),
    "claude-haiku-4-5, at Bedrock anywhere": Bill(
        "bedrock",
        "global.anthropic.claude-haiku-4-5-20251001-v1:0",
        BEDROCK,
        {"input": "1", "input_cached": "0.1", "output": "5"},
        "anthropic",
        {"input_tokens": 1000, "cache_read_input_tokens": 3000, "output_tokens": 100},
        ((1000, "1", M), (3000, "0.1", M), (100, "5", M)),
        "0.0018",
    ),
    "nova-lite": Bill(
        "bedrock",
        "us.amazon.nova-lite-v1:0",
        BEDROCK,
        {"input": "0.06", "input_cached": "0.015", "output": "0.24"},
        "openai",
        {"input_tokens": 24, "output_tokens": 10, "total_tokens": 34},
        ((24, "0.06", M), (10, "0.24", M)),
        "0.00000384",
    ),
    "gpt-oss-120b, at Bedrock": Bill(
        "bedrock",
        "openai.gpt-oss-120b-1:0",
        BEDROCK,
        {"input": "0.15", "output": "0.6"},
        "openai",
        openai(87, 44, reasoning=30),
        ((87, "0.15", M), (14, "0.6", M), (30, "0.6", M)),
        "0.00003945",
    ),
    # DeepSeek
    "deepseek-flash, by day": Bill(
        "deepseek",
        "deepseek-flash",
        DEEPSEEK,
        DEEPSEEK_FLASH,
        "openai",
        {
            "prompt_tokens": 371,
            "completion_tokens": 64,
            "total_tokens": 435,
            "prompt_tokens_details": {"cached_tokens": 320},
            "prompt_cache_hit_tokens": 320,
            "prompt_cache_miss_tokens": 51,
        },
        ((51, "0.15", M), (320, "0.003", M), (64, "0.6", M)),
        "0.00004701",
    ),
    "deepseek-flash, at its dear hours": Bill(
        "deepseek",
        "deepseek-flash",
        DEEPSEEK,
        DEEPSEEK_FLASH,
        "openai",
        {
            "prompt_tokens": 371,
            "completion_tokens": 64,
            "total_tokens": 435,
            "prompt_cache_hit_tokens": 320,
            "prompt_cache_miss_tokens": 51,
        },
        ((51, "0.3", M), (320, "0.006", M), (64, "1.2", M)),
        "0.00009402",
        at=NIGHT,
    ),
    # Others
    "mistral-small-latest, a cached prompt": Bill(
        "mistral",
        "mistral-small-latest",
        MISTRAL,
        {"input": "0.15", "input_cached": "0.015", "output": "0.6"},
        "openai",
        {
            "prompt_tokens": 159,
            "completion_tokens": 28,
            "total_tokens": 187,
            "prompt_tokens_details": {"cached_tokens": 128},
            "service_tier": "standard",
        },
        ((31, "0.15", M), (128, "0.015", M), (28, "0.6", M)),
        "0.00002337",
        service_tier="standard",
    ),
    "voxtral-mini, audio by the hour": Bill(
        "mistral",
        "voxtral-mini-2602",
        MISTRAL,
        {"per_audio_hour": "0.18"},
        "none",
        {},
        ((600, "0.003", 60),),
        "0.03",
        quantities=Quantities(audio_seconds=600),
    ),
    "command-a, what is billed": Bill(
        "cohere",
        "command-a-03-2025",
        COHERE,
        {"input": "2.5", "output": "10"},
        "cohere",
        {
            "billed_units": {"input_tokens": 121, "output_tokens": 51},
            "tokens": {"input_tokens": 624, "output_tokens": 54},
            "cached_tokens": 448,
        },
        ((121, "2.5", M), (51, "10", M)),
        "0.0008125",
    ),
    "rerank-v3.5, by the search": Bill(
        "cohere",
        "rerank-v3.5",
        COHERE,
        {"per_thousand_searches": "2"},
        "none",
        {},
        ((2, "2", 1000),),
        "0.004",
        quantities=Quantities(searches=2),
        in_genai=False,
    ),
    "gpt-oss-120b, at Groq": Bill(
        "groq",
        "openai/gpt-oss-120b",
        GROQ,
        {"input": "0.15", "input_cached": "0.075", "output": "0.6"},
        "openai",
        {
            "queue_time": 0.005354561,
            "prompt_tokens": 343,
            "prompt_time": 0.016828877,
            "completion_tokens": 180,
            "completion_time": 0.379143995,
            "total_tokens": 523,
            "completion_tokens_details": {"reasoning_tokens": 153},
        },
        ((343, "0.15", M), (27, "0.6", M), (153, "0.6", M)),
        "0.00015945",
        service_tier="on_demand",
    ),
    "whisper-large-v3, at Groq, no less than ten seconds": Bill(
        "groq",
        "whisper-large-v3",
        GROQ,
        {"per_audio_hour": "0.111", "minimum_audio_seconds": 10},
        "none",
        {},
        ((10, "0.111", 3600),),
        "0.0003083333333333333333333333333",
        quantities=Quantities(audio_seconds=Decimal("3.2")),
    ),
    "grok-4.3, reasoning beside the completion": Bill(
        "x_ai",
        "grok-4.3",
        XAI,
        GROK_43,
        "openai",
        {
            "prompt_tokens": 199,
            "completion_tokens": 2,
            "total_tokens": 322,
            "prompt_tokens_details": {"cached_tokens": 192},
            "completion_tokens_details": {"reasoning_tokens": 121},
        },
        ((7, "1.25", M), (192, "0.2", M), (2, "2.5", M), (121, "2.5", M)),
        "0.00035465",
    ),
    "grok-4.3, from the threshold on": Bill(
        "x_ai",
        "grok-4.3",
        XAI,
        GROK_43,
        "openai",
        openai(200_000, 10),
        ((200_000, "2.5", M), (10, "5", M)),
        "0.50005",
    ),
    "sonar, by the request too": Bill(
        "perplexity",
        "sonar",
        PERPLEXITY,
        {"input": "1", "output": "1", "per_request": "0.012"},
        "openai",
        {"prompt_tokens": 11, "completion_tokens": 62, "total_tokens": 73},
        ((11, "1", M), (62, "1", M), (1, "12", 1000)),
        "0.012073",
    ),
    "kimi-k2.5, cached tokens at the top": Bill(
        "moonshot",
        "kimi-k2.5",
        MOONSHOT,
        {"input": "0.6", "input_cached": "0.1", "output": "3"},
        "openai",
        {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320, "cached_tokens": 256},
        ((44, "0.6", M), (256, "0.1", M), (20, "3", M)),
        "0.000112",
    ),
    "claude-haiku-4.5, at OpenRouter": Bill(
        "openrouter",
        "anthropic/claude-haiku-4.5",
        OPENROUTER,
        {"input": "1", "input_cached": "0.1", "cache_write_5m": "1.25", "output": "5"},
        "openai",
        {
            "prompt_tokens": 633,
            "completion_tokens": 75,
            "total_tokens": 708,
            "cost": 0.001008,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        },
        ((633, "1", M), (75, "5", M)),
        "0.001008",
    ),
    "voyage-3.5": Bill(
        "voyage",
        "voyage-3.5",
        VOYAGE,
        {"input": "0.06"},
        "openai",
        {"total_tokens": 1234},
        ((1234, "0.06", M),),
        "0.00007404",
    ),
}
