"""Token counts: what a provider says, in disjoint buckets, whatever it says."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm.types import Usage
from asgi_llm.wire.usage import MAX_TOKENS, usage_from_openai, usage_to_openai
from tests.wire.conftest import Recorded

PLAIN = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}

READ: dict[str, tuple[Any, Usage]] = {
    "a chat": (PLAIN, Usage(input_uncached=10, output_text=5)),
    "explicit zeros": (
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        Usage(),
    ),
    "details": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {
                "cached_tokens": 30,
                "audio_tokens": 20,
                "cache_write_tokens": 10,
            },
            "completion_tokens_details": {
                "reasoning_tokens": 20,
                "audio_tokens": 5,
                "accepted_prediction_tokens": 3,
                "rejected_prediction_tokens": 2,
            },
        },
        Usage(
            input_uncached=40,
            input_cached=30,
            cache_write_5m=10,
            audio_in=20,
            output_text=25,
            reasoning=20,
            audio_out=5,
        ),
    ),
    "details that are null": (
        {
            **PLAIN,
            "prompt_tokens_details": None,
            "completion_tokens_details": {"reasoning_tokens": None},
        },
        Usage(input_uncached=10, output_text=5),
    ),
    "an embedding": ({"prompt_tokens": 8, "total_tokens": 8}, Usage(input_uncached=8)),
    "no total": (
        {"prompt_tokens": 8, "completion_tokens": 2},
        Usage(input_uncached=8, output_text=2),
    ),
    "images": (
        {
            "input_tokens": 20,
            "output_tokens": 1000,
            "total_tokens": 1020,
            "input_tokens_details": {"text_tokens": 15, "image_tokens": 5},
        },
        Usage(input_uncached=20, output_text=1000),
    ),
    "a transcription": (
        {
            "type": "tokens",
            "input_tokens": 14,
            "output_tokens": 45,
            "total_tokens": 59,
            "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
        },
        Usage(input_uncached=4, audio_in=10, output_text=45),
    ),
    "DeepSeek's cache": (
        {**PLAIN, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 6},
        Usage(input_uncached=6, input_cached=4, output_text=5),
    ),
    "DeepSeek's cache, said twice": (
        {**PLAIN, "prompt_cache_hit_tokens": 4, "prompt_tokens_details": {"cached_tokens": 4}},
        Usage(input_uncached=6, input_cached=4, output_text=5),
    ),
    "Together's cache": (
        {**PLAIN, "cached_tokens": 4},
        Usage(input_uncached=6, input_cached=4, output_text=5),
    ),
    "Mistral's cache": (
        {**PLAIN, "num_cached_tokens": 9},
        Usage(input_uncached=1, input_cached=9, output_text=5),
    ),
    "reasoning beside the output": (
        {
            "prompt_tokens": 37,
            "completion_tokens": 530,
            "total_tokens": 800,
            "completion_tokens_details": {"reasoning_tokens": 233},
        },
        Usage(input_uncached=37, output_text=530, reasoning=233),
    ),
    "a total with unnamed reasoning": (
        {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109},
        Usage(input_uncached=35, output_text=12, reasoning=62, estimated=True),
    ),
    "a whole answer": ({"id": "x", "usage": PLAIN}, Usage(input_uncached=10, output_text=5)),
    "a Groq chunk": (
        {"choices": [], "x_groq": {"id": "x", "usage": PLAIN}},
        Usage(input_uncached=10, output_text=5),
    ),
}


@pytest.mark.parametrize("name", READ)
def test_usage_is_read(name: str) -> None:
    """Each server's way of counting comes out in the same buckets."""
    obj, expected = READ[name]
    assert expected == usage_from_openai(obj)


@pytest.mark.parametrize(
    "obj",
    [
        None,
        {},
        [],
        "usage",
        7,
        {"usage": None},
        {"usage": {}},
        {"x_groq": None},
        {"x_groq": {"id": "x"}},
        {"type": "duration", "seconds": 9},
        {"prompt_tokens": None, "completion_tokens": None},
    ],
)
def test_silence_is_none(obj: Any) -> None:
    """Where nothing is reported there is no usage, not one of zeros."""
    assert None is usage_from_openai(obj)


DOUBTFUL: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "negative": ({**PLAIN, "completion_tokens": -5, "total_tokens": 10}, (10, 0)),
    "a string": ({**PLAIN, "prompt_tokens": "10"}, (10, 5)),
    "words": ({"prompt_tokens": "many", "completion_tokens": 5}, (0, 5)),
    "a float": ({**PLAIN, "prompt_tokens": 10.0}, (10, 5)),
    "not a number": ({"prompt_tokens": math.nan, "completion_tokens": 5}, (0, 5)),
    "infinite": ({"prompt_tokens": 1, "completion_tokens": math.inf}, (1, MAX_TOKENS)),
    "a bool": ({"prompt_tokens": True, "completion_tokens": 5}, (0, 5)),
    "absurd": ({"prompt_tokens": 1, "completion_tokens": 10**30}, (1, MAX_TOKENS)),
    "an absurd string": ({"prompt_tokens": "9" * 9999, "completion_tokens": 1}, (0, 1)),
    "a list": ({"prompt_tokens": [10], "completion_tokens": 5}, (0, 5)),
    "only a total": ({"total_tokens": 12}, (12, 0)),
    "no input": ({"completion_tokens": 5}, (0, 5)),
    "a total below its parts": ({**PLAIN, "total_tokens": 3}, (10, 5)),
    "a total below the input": ({"prompt_tokens": 10, "total_tokens": 3}, (10, 0)),
    "more cached than read": (
        {**PLAIN, "prompt_tokens_details": {"cached_tokens": 163}},
        (10, 5),
    ),
    "more reasoning than output": (
        {**PLAIN, "completion_tokens_details": {"reasoning_tokens": 11}},
        (10, 5),
    ),
    "details of another type": ({**PLAIN, "prompt_tokens_details": [1]}, (10, 5)),
    "a negative part": ({**PLAIN, "prompt_tokens_details": {"cached_tokens": -1}}, (10, 5)),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_b42_what_cannot_be_is_clipped_and_marked(name: str) -> None:
    """Nonsense becomes the nearest sane figure, and the usage says that it is an estimate."""
    obj, (given_tokens, made_tokens) = DOUBTFUL[name]
    usage = usage_from_openai(obj)
    assert usage is not None
    assert (given_tokens, made_tokens, True) == (
        usage.input_tokens,
        usage.output_tokens,
        usage.estimated,
    )


ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=0, max_value=2000),
    st.floats(),
    st.text("0123456789-e. x", max_size=5),
    st.lists(st.integers(), max_size=2),
)
DETAILS = st.one_of(
    ANYTHING,
    st.dictionaries(
        st.sampled_from(
            ["cached_tokens", "audio_tokens", "reasoning_tokens", "cache_write_tokens", "other"]
        ),
        ANYTHING,
    ),
)
NAMES = [
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "prompt_cache_hit_tokens",
    "cached_tokens",
]


@settings(deadline=None, database=None)
@given(
    st.dictionaries(st.sampled_from(NAMES), ANYTHING),
    st.dictionaries(
        st.sampled_from(["prompt_tokens_details", "completion_tokens_details"]), DETAILS
    ),
)
def test_b42_nothing_a_provider_sends_raises_or_goes_negative(
    counts: dict[str, Any], details: dict[str, Any]
) -> None:
    """Each bucket is a whole number from 0 to a sane maximum, for any input at all."""
    usage = usage_from_openai({**counts, **details})
    assert usage == usage_from_openai({**counts, **details, "unknown": 1})
    if usage is None:
        assert all(counts.get(name) is None for name in NAMES[:5])
        return
    buckets = (
        usage.input_uncached,
        usage.input_cached,
        usage.cache_write_5m,
        usage.audio_in,
        usage.output_text,
        usage.reasoning,
        usage.audio_out,
    )
    assert all(type(bucket) is int and 0 <= bucket <= 2 * MAX_TOKENS for bucket in buckets)
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    if type(prompt) is int and 0 <= prompt <= MAX_TOKENS:
        assert prompt == usage.input_tokens
    if type(completion) is int and 0 <= completion <= MAX_TOKENS:
        assert completion <= usage.output_tokens


BUCKET = st.integers(min_value=0, max_value=10**6)


@settings(deadline=None, database=None)
@given(BUCKET, BUCKET, BUCKET, BUCKET, BUCKET, BUCKET, BUCKET)
def test_a_round_trip_keeps_every_bucket(
    uncached: int, cached: int, written: int, heard: int, text: int, reasoning: int, said: int
) -> None:
    """What is told to a client in OpenAI's convention reads back as the same buckets."""
    usage = Usage(
        input_uncached=uncached,
        input_cached=cached,
        cache_write_5m=written,
        audio_in=heard,
        output_text=text,
        reasoning=reasoning,
        audio_out=said,
    )
    document = usage_to_openai(usage)
    assert usage == usage_from_openai(document)
    assert usage == usage_from_openai({"usage": document})
    assert document["total_tokens"] == document["prompt_tokens"] + document["completion_tokens"]


def test_cache_writes_of_both_lifetimes_are_told_together() -> None:
    """OpenAI's object has one count for cache writes, and none where there were none."""
    document = usage_to_openai(Usage(input_uncached=1, cache_write_5m=2, cache_write_1h=4))
    assert {"cached_tokens": 0, "audio_tokens": 0, "cache_write_tokens": 6} == document[
        "prompt_tokens_details"
    ]
    assert "cache_write_tokens" not in usage_to_openai(Usage())["prompt_tokens_details"]
    assert 7 == document["prompt_tokens"]


def test_recorded_usage_equals_what_the_provider_billed(recorded: list[Recorded]) -> None:
    """Input and output are the reported ones; only contradictions are marked as estimates."""
    doubtful = []
    seen = 0
    for row in recorded:
        for answer in row.answers:
            usage = usage_from_openai(answer)
            if usage is None:
                continue
            seen += 1
            said = answer.get("usage") or answer["x_groq"]["usage"]
            assert said["prompt_tokens"] == usage.input_tokens
            assert said["total_tokens"] == usage.total_tokens
            if usage.estimated:
                doubtful.append(row.file)
    assert seen > 200
    assert {"azure_ai.chat.jsonl", "gemini_openai.chat.jsonl", "openrouter.chat.jsonl"} >= set(
        doubtful
    )
    assert len(doubtful) < 10
