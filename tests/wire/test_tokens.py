"""How many tokens a request holds."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.errors import ConfigurationError
from asgi_llm.wire.tokens import (
    IMAGE_TOKENS,
    LOW_DETAIL_IMAGE_TOKENS,
    MEDIA_TOKENS,
    BPETokens,
    EstimatedTokens,
    TokenCount,
    vocabulary,
)

bpe_openai: Any = pytest.importorskip("bpe_openai", reason="bpe-openai is not installed")

COUNTER = BPETokens()
ESTIMATE = EstimatedTokens()


def chat(*contents: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": one} for one in contents], **fields}


async def counted(document: dict[str, Any], model: str = "gpt-4o") -> TokenCount:
    return await COUNTER.count(document, model)


@pytest.mark.parametrize(
    ("text", "model", "name"),
    (
        ("Hello, world! Grüße, 世界.", "gpt-4o-mini", "o200k_base"),
        ("Hello, world! Grüße, 世界.", "openai/gpt-4-turbo", "cl100k_base"),
        ("<|endoftext|> is text here", "gpt-4o", "o200k_base"),
        ("", "gpt-5", "o200k_base"),
    ),
)
async def test_a_text_has_the_tokens_of_its_models_vocabulary(
    text: str, model: str, name: str
) -> None:
    """As the tokenizer itself counts it, and exactly, with 4 a message and 3 for the answer."""
    tokens = len(bpe_openai.get_encoding(name).encode_ordinary(text))
    assert TokenCount(tokens + 7, True) == await counted(chat(text), model)


@pytest.mark.parametrize(
    ("model", "name"),
    (
        ("gpt-4o", "o200k_base"),
        ("openai/gpt-5-mini", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("ft:gpt-4.1:acme", "o200k_base"),
        ("azure/gpt-35-turbo", "cl100k_base"),
        ("text-embedding-3-large", "cl100k_base"),
        ("gpt-4-0613", "cl100k_base"),
        ("claude-sonnet-4-5", None),
        ("gemini-3-pro", None),
        ("", None),
    ),
)
def test_a_model_has_the_vocabulary_of_its_family(model: str, name: str | None) -> None:
    """By the name after the provider's; other makers' models have none that is public."""
    assert name == vocabulary(model)


async def test_other_makers_models_are_an_estimate() -> None:
    """Claude and Gemini are counted in another vocabulary, and it is said."""
    count = await counted(chat("Hello there"), "anthropic/claude-sonnet-4-5")
    assert (9, False) == (count.tokens, count.exact)


FORMS: dict[str, tuple[dict[str, Any], int, bool]] = {
    "prompt": ({"prompt": "a b c"}, 3, True),
    "prompts": ({"prompt": ["a b c", "d e"]}, 5, True),
    "tokens": ({"prompt": [1, 2, 3, 4]}, 4, True),
    "lists of tokens": ({"input": [[1, 2], [3]]}, 3, True),
    "mixed": ({"input": [1, "a b", [2]]}, 4, True),
    "input": ({"input": "a b c"}, 3, True),
    "rerank": ({"query": "a b", "documents": ["c", {"text": "d e"}]}, 5, True),
    "parts": (chat([{"type": "text", "text": "a b c"}]), 10, True),
    "image": (
        chat([{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9999}}]),
        7 + IMAGE_TOKENS,
        False,
    ),
    "small image": (
        chat([{"type": "image_url", "image_url": {"url": "https://x.test/a", "detail": "low"}}]),
        7 + LOW_DETAIL_IMAGE_TOKENS,
        False,
    ),
    "sound": (
        chat([{"type": "input_audio", "input_audio": {"data": "A" * 9999, "format": "wav"}}]),
        7 + MEDIA_TOKENS,
        False,
    ),
    "file": (chat([{"type": "file", "file": {"file_id": "f"}}]), 7 + MEDIA_TOKENS, False),
    "nothing": ({}, 0, True),
    "two messages": (chat("a b c", "d"), 15, True),
}


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_request_is_counted(form: str) -> None:
    """Chats, prompts, inputs and documents, texts and tokens, at stated figures for media."""
    document, tokens, exact = FORMS[form]
    assert TokenCount(tokens, exact) == await counted(document)


async def test_tools_and_calls_are_counted_by_their_json() -> None:
    """They are an estimate, for providers write them in a form of their own."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    plain = await counted(chat("Hello"))
    with_tools = await counted(chat("Hello", tools=[tool]))
    assert 10 < with_tools.tokens - plain.tokens < 40
    assert not with_tools.exact
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", **tool}]}
    assert 14 < (await counted({"messages": [called]})).tokens < 50


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
FIELDS = ("messages", "prompt", "input", "tools", "documents", "query", "response_format")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
async def test_whatever_is_sent_has_a_count(document: dict[str, Any]) -> None:
    """Documents need not make sense: nothing raises, and nothing is below zero."""
    for counter in (COUNTER, ESTIMATE):
        assert (await counter.count(document, "gpt-4o")).tokens >= 0


async def test_the_default_is_a_token_for_four_bytes() -> None:
    """Cheap, for any model, and never said to be exact."""
    assert TokenCount(7 + 10, False) == await ESTIMATE.count(chat("x" * 40), "gpt-4o")
    assert TokenCount(7 + 30, False) == await ESTIMATE.count(chat("世" * 40), "gpt-4o")
    assert TokenCount(7 + 1, False) == await ESTIMATE.count(chat("\ud800"), "gpt-4o")


async def test_pieces_have_the_count_of_the_whole() -> None:
    """A text that is counted in pieces has the same number of tokens, cut between words."""
    text = "The quick brown fox, isn't it? jumps over 12345 lazy dogs.\n\n" * 700
    whole = len(bpe_openai.get_encoding("o200k_base").encode_ordinary(text))
    count = await counted(chat(text))
    assert TokenCount(whole + 7, True) == count


CAPPED: dict[str, tuple[dict[str, Any], int]] = {
    "10 MB of text": (chat("word " * 2_000_000), 2_500_007),
    "10 MB that is not ASCII": (chat("世" * 3_400_000), 2_550_007),
    "many texts of 1 MB": (chat(*["a" * 1_000_000] * 3), 750_015),
}


@pytest.mark.parametrize("case", CAPPED)
async def test_b39_what_is_over_the_cap_is_estimated_by_its_bytes(case: str) -> None:
    """Nobody tokenizes 10 MB; the count says that it is an estimate."""
    document, expected = CAPPED[case]
    assert TokenCount(expected, False) == await counted(document)


THREADED: dict[str, tuple[dict[str, Any], int]] = {
    "a word of 1 MB": (chat("a" * 1_000_000), 125_007),
    "20,000 messages": (chat(*["a b c"] * 20_000), 140_003),
}


@pytest.mark.parametrize("case", THREADED)
async def test_b39_b40_large_texts_are_counted_beside_the_loop(case: str) -> None:
    """While they are, the loop goes on with others."""
    document, expected = THREADED[case]
    turns, running = 0, True

    async def others() -> None:
        nonlocal turns
        while running:
            turns += 1
            await asyncio.sleep(0)

    interval = sys.getswitchinterval()
    # Short, so that a thread that lets others in between its pieces shows it, however fast it is.
    sys.setswitchinterval(0.0001)
    try:
        going = asyncio.create_task(others())
        count = await counted(document)
        running = False
        await going
    finally:
        sys.setswitchinterval(interval)
    assert abs(count.tokens - expected) <= 0.01 * expected
    assert turns > 2


async def test_small_texts_are_counted_at_once() -> None:
    """The way to a thread and back costs more than they do."""
    counting = COUNTER.count(chat("Hello"), "gpt-4o")
    with pytest.raises(StopIteration):
        counting.send(None)


@pytest.mark.parametrize("options", ({"thread_bytes": -1}, {"max_bytes": 0}))
def test_a_bad_option_is_named(options: dict[str, int]) -> None:
    """Numbers out of range are refused."""
    with pytest.raises(ConfigurationError) as caught:
        BPETokens(**options)
    assert next(iter(options)) == caught.value.param
