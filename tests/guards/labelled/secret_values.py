"""Made-up secrets, put together when they are wanted, so that no file holds anything like one."""

from __future__ import annotations

import base64
import json
import random
import string
import zlib
from collections.abc import Callable
from typing import Final

__all__ = ["LOOKALIKES", "SECRETS"]

_ALNUM: Final = string.ascii_letters + string.digits
_URL: Final = _ALNUM + "-_"
_HEX: Final = "0123456789abcdef"
_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_BASE32: Final = string.ascii_uppercase + "234567"

Make = Callable[[random.Random], str]


def some(rng: random.Random, alphabet: str, count: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(count))


def _form(*parts: str | tuple[str, int]) -> Make:
    """A secret of fixed parts and random ones (alphabet and length)."""

    def make(rng: random.Random) -> str:
        return "".join(one if isinstance(one, str) else some(rng, *one) for one in parts)

    return make


def _with_crc(prefix: str) -> Make:
    def make(rng: random.Random) -> str:
        body = some(rng, _ALNUM, 30)
        number, text = zlib.crc32(body.encode()), ""
        for _ in range(6):
            number, digit = divmod(number, 62)
            text = _BASE62[digit] + text
        return prefix + body + text

    return make


def _grafana(rng: random.Random) -> str:
    body = "gl" + "sa_" + some(rng, _ALNUM, 32)
    return f"{body}_{zlib.crc32(body.encode()):08x}"


def jwt(rng: random.Random) -> str:
    def part(document: dict[str, object]) -> str:
        text = json.dumps(document, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    head = part({"alg": rng.choice(("HS256", "RS256", "ES256")), "typ": "JWT"})
    body = part({"sub": some(rng, string.digits, 9), "iat": rng.randint(10**9, 2 * 10**9)})
    return f"{head}.{body}.{some(rng, _URL, 43)}"


def _block(label: str, *, escaped: bool = False, indent: str = "") -> Make:
    def make(rng: random.Random) -> str:
        size = rng.randint(200, 1600)
        body = base64.b64encode(rng.randbytes(size)).decode()
        lines = [body[at : at + 64] for at in range(0, len(body), 64)]
        rows = ["-----BEGIN " + label + "-----", *lines, "-----END " + label + "-----"]
        return ("\\n" if escaped else "\n" + indent).join(rows)

    return make


def _url(scheme: str) -> Make:
    def make(rng: random.Random) -> str:
        password = some(rng, _ALNUM, rng.randint(8, 20))
        return f"{scheme}://app:{password}@db{rng.randint(1, 9)}.internal.example.com"

    return make


def password(rng: random.Random) -> str:
    return some(rng, string.ascii_letters, 5) + some(rng, string.digits, 3) + some(rng, "!#%+?~", 1)


SECRETS: Final[dict[str, Make]] = {
    "openai": _form("sk-" + "proj-", (_URL, 58), "T3Blbk" + "FJ", (_URL, 58)),
    "openai_old": _form("sk-", (_ALNUM, 20), "T3Blbk" + "FJ", (_ALNUM, 20)),
    "anthropic": _form("sk-" + "ant-api03-", (_URL, 93), "AA"),
    "openrouter": _form("sk-" + "or-v1-", (_HEX, 64)),
    "own": _form("sk-", (_URL, 43)),
    "groq": _form("gs" + "k_", (_ALNUM, 52)),
    "xai": _form("xa" + "i-", (_ALNUM, 80)),
    "perplexity": _form("pp" + "lx-", (_ALNUM, 48)),
    "replicate": _form("r8" + "_", (_ALNUM, 37)),
    "hugging_face": _form("hf" + "_", (string.ascii_letters, 34)),
    "nvidia": _form("nv" + "api-", (_URL, 64)),
    "langsmith": _form("lsv2" + "_pt_", (_HEX, 32), "_", (_HEX, 10)),
    "aws": _form("AK" + "IA", (_BASE32, 16)),
    "google": _form("AI" + "za", (_URL, 35)),
    "google_secret": _form("GOC" + "SPX-", (_URL, 28)),
    "digitalocean": _form("do" + "p_v1_", (_HEX, 64)),
    "databricks": _form("da" + "pi", (_HEX, 32)),
    "github": _with_crc("gh" + "p_"),
    "github_server": _with_crc("gh" + "s_"),
    "github_fine": _form("github" + "_pat_", (_ALNUM, 22), "_", (_ALNUM, 59)),
    "gitlab": _form("gl" + "pat-", (_URL, 20)),
    "npm": _with_crc("np" + "m_"),
    "pypi": _form("py" + "pi-AgEIcHlwaS5vcmc", (_URL, 120)),
    "rubygems": _form("rubygems" + "_", (_HEX, 48)),
    "docker": _form("dckr" + "_pat_", (_URL, 27)),
    "terraform": _form((_ALNUM, 14), ".atl" + "asv1.", (_URL, 64)),
    "pulumi": _form("pu" + "l-", (_HEX, 40)),
    "vault": _form("hv" + "s.", (_ALNUM, 24)),
    "doppler": _form("dp" + ".pt.", (_ALNUM, 43)),
    "slack": _form("xo" + "xb-", (string.digits, 12), "-", (string.digits, 12), "-", (_ALNUM, 24)),
    "slack_hook": _form(
        "https://hooks.slack.com/ser" + "vices/T",
        (_ALNUM, 9),
        "/B",
        (_ALNUM, 9),
        "/",
        (_ALNUM, 24),
    ),
    "discord": _form("MT", (_ALNUM, 24), ".", (_URL, 6), ".", (_URL, 38)),
    "telegram": _form((string.digits, 10), ":A" + "A", (_URL, 33)),
    "twilio": _form("S" + "K", (_HEX, 32)),
    "sendgrid": _form("S" + "G.", (_URL, 22), ".", (_URL, 43)),
    "mailgun": _form("ke" + "y-", (_HEX, 32)),
    "mailchimp": _form((_HEX, 32), "-us" + "14"),
    "brevo": _form("xkey" + "sib-", (_HEX, 64), "-", (_ALNUM, 16)),
    "postman": _form("PM" + "AK-", (_HEX, 24), "-", (_HEX, 34)),
    "stripe": _form("sk" + "_live_", (_ALNUM, 24)),
    "stripe_hook": _form("wh" + "sec_", (_ALNUM, 32)),
    "square": _form("sq0" + "atp-", (_URL, 22)),
    "shopify": _form("shp" + "at_", (_HEX, 32)),
    "notion": _form("nt" + "n_", (_ALNUM, 46)),
    "linear": _form("lin" + "_api_", (_ALNUM, 40)),
    "figma": _form("fig" + "d_", (_URL, 40)),
    "airtable": _form("pa" + "t", (_ALNUM, 14), ".", (_HEX, 64)),
    "new_relic": _form("NR" + "AK-", (string.ascii_uppercase + string.digits, 27)),
    "grafana": _grafana,
    "planetscale": _form("pscale" + "_pw_", (_URL, 43)),
    "supabase": _form("sb" + "p_", (_HEX, 40)),
    "tailscale": _form("tskey" + "-auth-", (_ALNUM, 16), "-", (_ALNUM, 32)),
    "sentry": _form("sntry" + "u_", (_HEX, 64)),
    "jwt": jwt,
    "rsa": _block("RSA PRIVATE " + "KEY"),
    "pkcs8": _block("PRIVATE " + "KEY"),
    "ssh": _block("OPENSSH PRIVATE " + "KEY"),
    "pkcs8_escaped": _block("PRIVATE " + "KEY", escaped=True),
    "ec_indented": _block("EC PRIVATE " + "KEY", indent="    "),
    "postgres": _url("postgresql"),
    "mongodb": _url("mongodb+srv"),
    "redis": _url("redis"),
    "amqp": _url("amqps"),
}
"""By the slot that they fill; each is a secret wherever it stands."""


def _uuid(rng: random.Random) -> str:
    return "-".join(some(rng, _HEX, size) for size in (8, 4, 4, 4, 12))


def _wrong_crc(rng: random.Random) -> str:
    return "gh" + "p_" + some(rng, "a", 36)


LOOKALIKES: Final[dict[str, Make]] = {
    "sha1": lambda rng: some(rng, _HEX, 40),
    "sha256": lambda rng: some(rng, _HEX, 64),
    "md5": lambda rng: some(rng, _HEX, 32),
    "uuid": _uuid,
    "base64": lambda rng: base64.b64encode(rng.randbytes(60)).decode(),
    "integrity": lambda rng: "sha512-" + base64.b64encode(rng.randbytes(64)).decode(),
    "slug": lambda rng: "-".join(rng.sample(("how", "to", "use", "our", "api", "well", "2024"), 5)),
    "digits": lambda rng: some(rng, string.digits, 16),
    "video": lambda rng: some(rng, _URL, 11),
    "sk_placeholder": lambda _: "sk-" + "x" * 48,
    "sk_your": lambda _: "sk-" + "your-openai-api-key-goes-right-here",
    "ghp_placeholder": _wrong_crc,
    "aws_example": lambda _: "AK" + "IAIOSFODNN7EXAMPLE",
    "env": lambda rng: rng.choice(
        ("$API_KEY", "${API_KEY}", "%API_KEY%", "<your key>", "{{ key }}")
    ),
    "public_key": lambda rng: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + some(rng, _ALNUM, 43),
    "certificate": lambda rng: (
        "-----BEGIN CERTIFICATE-----\n"
        + base64.b64encode(rng.randbytes(48)).decode()
        + "\n-----END CERTIFICATE-----"
    ),
    "classes": lambda rng: "btn-primary btn-lg sk-fading-circle-" + some(rng, "abc", 4),
    "bare_url": lambda rng: f"https://example.com:8443/path/{some(rng, _ALNUM, 20)}?page=2",
    "mention": lambda rng: rng.choice(
        ("a token with the right scope", "the secret of a good risotto", "your password manager")
    ),
}
"""Made of the same characters, and no secret."""
