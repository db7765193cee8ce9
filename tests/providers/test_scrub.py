"""What is taken out of a provider's text, and what stays."""

from __future__ import annotations

import base64
import time
from urllib.parse import quote

import pytest

from asgi_llm.providers._scrub import scrub

SECRET = "hunter2/with+odd=chars"


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abc_DEF-123.",
        "Incorrect API key provided: sk-abcd************wxyz.",
        "Authentication Fails, Your api key: ****2f3a is invalid",
        "bad header Authorization: Bearer abc.def.ghi",
        "bad header Basic dXNlcjpwYXNzd29yZA==",
        "GET /v1/models?key=AIzaSyA-0123456789abcdefghijklmno failed",
        "POST /x?token=tok_live_99&x=1",
        "key gsk_0123456789abcdef0123",
        "key xai-0123456789abcdef",
        "key nvapi-0123456789abcdef",
        "key hf_abcdefghijklmnop",
        "{'api_key': 'f00dfeed'}",
        "x-api-key=f00dfeed",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "Organization org-9aB3dE5fG7hJ has no access",
        "Project proj_9aB3dE5fG7hJ has no access",
        "request 0123456789abcdef0123456789abcdef0123",
    ],
)
def test_b22_what_looks_like_a_credential_is_redacted(text: str) -> None:
    """Keys, tokens, masked keys and account ids of the known forms are gone."""
    out = scrub(text)
    assert "[redacted]" in out
    for part in ("abc_DEF", "wxyz", "2f3a", "def.ghi", "dXNlcj", "AIza", "tok_live", "0123456789"):
        assert part not in out
    for part in ("f00dfeed", "c2lnbmF0dXJl", "9aB3dE5fG7hJ", "abcdefghijklmnop"):
        assert part not in out


@pytest.mark.parametrize(
    "text",
    [
        "The model `meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8` does not exist",
        "Unsupported parameter: 'max_tokens' is not supported with this model.",
        "Invalid 'messages[3].content': expected a string, got null",
        "You must provide a bearer token",
        "This org-wide limit is 30000 tokens",
        "temperature must be < 2.0 and > 0; got 3.5",
        "Rate limit reached for gpt-4o-mini in 7.66s",
    ],
)
def test_ordinary_messages_stay_as_they_are(text: str) -> None:
    """Model names, field paths and figures are what the client needs."""
    assert text == scrub(text)


@pytest.mark.parametrize(
    "form", [SECRET, quote(SECRET, safe=""), base64.b64encode(SECRET.encode()).decode().rstrip("=")]
)
def test_b22_a_configured_secret_is_removed_in_each_form(form: str) -> None:
    """Plain, URL-quoted and base64."""
    assert "a [redacted] b" == scrub(f"a {form} b", [SECRET])


def test_a_placeholder_is_no_secret() -> None:
    """Local servers get keys like 'none', and their messages keep their words."""
    assert "none of these" == scrub("none of these", ["none", ""])


def test_b22_a_secret_within_another_does_not_leave_the_rest_of_it() -> None:
    """The longer one is taken out first."""
    assert "[redacted]" == scrub("abcdefgh-tail", ["abcdefgh", "abcdefgh-tail"])


def test_b22_links_and_addresses_are_taken_out() -> None:
    """No client needs the inside of the provider's network, or a link to its dashboard."""
    text = "see https://platform.openai.com/account/api-keys. upstream 10.0.0.3:8080 refused"
    assert "see [link]. upstream [address] refused" == scrub(text)


def test_control_characters_become_one_blank() -> None:
    """Nothing can forge a log line or turn a terminal's text around."""
    assert "a b c d" == scrub("a\r\n\tb\x00\x1b c\u202e\u2028d")


def test_a_long_text_is_cut() -> None:
    """1,000 characters at most."""
    out = scrub("word " * 1000)
    assert 1000 == len(out)
    assert out.endswith("...")


def test_b22_a_secret_across_the_cut_of_a_huge_text_does_not_leak() -> None:
    """The text is cut before it is searched, and never inside a word."""
    text = "https://x.example/" + "a" * 7960 + " " + "zq" * 40
    assert "zq" not in scrub(text, ["zq" * 40])


@pytest.mark.parametrize("text", ["x" * 8000, "sk-" * 2600, "a." * 4000, "*" * 8000, "key=" * 2000])
def test_no_text_takes_long(text: str) -> None:
    """The patterns are linear enough for text that an attacker chose."""
    started = time.process_time()
    scrub(text, ["secret-secret"])
    assert time.process_time() - started < 0.25
