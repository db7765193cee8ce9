"""Taking secrets out of text that comes from a provider."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from urllib.parse import quote

__all__ = ["MAX_MESSAGE_CHARACTERS", "scrub"]

MAX_MESSAGE_CHARACTERS = 1000

_MAX_INPUT = 8 * MAX_MESSAGE_CHARACTERS
# A shorter secret is a placeholder such as "EMPTY", and would take ordinary words with it.
_MIN_SECRET = 6

_URL = re.compile(r"\b(?:https?|wss?)://[^\s\"'<>`]*[^\s\"'<>`.,;:!?)\]}]", re.IGNORECASE)
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b")
_KEYS = re.compile(
    r"""
      (?i:\b(?:bearer|basic)\s+)[\w.~+/=*\-]{6,}                # an authorization header
    | (?i:\b(?:api[-_\ ]?key|x-api-key|password|secret)["']?\s*[=:]\s*["']?)[^\s"',;&]+
    | (?i:\b(?:key|token|sig|signature)=)[^\s"',;&]+            # in a query
    | \b(?:sk|pk|rk)[-_][\w.*\-]{4,}                            # OpenAI, Anthropic, Stripe's forms
    | \b(?:gsk_|hf_|fw_|r8_|tgp_|ya29\.)[\w.*\-]{6,}
    | \b(?:xai|csk|pplx|nvapi|sess)-[\w.*\-]{6,}
    | \b(?:AIza|AKIA|ASIA)[\w\-]{12,}
    | \beyJ[\w\-]{8,}\.[\w\-.]+                                 # a JSON web token
    | \b(?:org|proj|user)[-_](?=\w{0,40}\d|\w{16})\w+           # account ids
    | [^\s*]{0,64}\*{3,}[^\s*]{0,64}                            # a key that is masked in the middle
    | \b\w{36,}\b
    """,
    re.VERBOSE,
)
_CONTROL = re.compile(r"[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+")


def scrub(text: str, secrets: Sequence[str] = ()) -> str:
    """``text`` without secrets, links, addresses and control characters, 1,000 characters at most.

    Args:
        text: Anything that a provider said.
        secrets: Known secrets; also their URL-quoted and base64 forms are taken out. Those under 6
            characters are placeholders and stay.
    """
    if len(text) > _MAX_INPUT:
        # The cut may go through a secret, so the last word goes as a whole.
        text = text[:_MAX_INPUT].rpartition(" ")[0]
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET:
            for form in (secret, quote(secret, safe=""), _base64(secret)):
                text = text.replace(form, "[redacted]")
    text = _CONTROL.sub(" ", text).strip()
    text = _URL.sub("[link]", text)
    text = _ADDRESS.sub("[address]", text)
    text = _KEYS.sub("[redacted]", text)
    if len(text) > MAX_MESSAGE_CHARACTERS:
        text = text[: MAX_MESSAGE_CHARACTERS - 3] + "..."
    return text


def _base64(secret: str) -> str:
    return base64.b64encode(secret.encode()).decode().rstrip("=")
