"""Secrets: every format, whole, and not what only looks like one."""

from __future__ import annotations

import random

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import GuardContext
from asgi_llm.guards.secrets import SecretsGuard
from tests.guards.labelled.secret_values import LOOKALIKES, SECRETS, password, some

GUARD = SecretsGuard()


@pytest.mark.parametrize("kind", sorted(SECRETS))
def test_a_kind_of_secret(kind: str, context: GuardContext) -> None:
    """It is found in prose, in JSON and in an assignment, all of it."""
    rng = random.Random(kind)
    for text in ("use {} now", '{{"v":"{}"}}', "X={}\n", "{}"):
        secret = SECRETS[kind](rng)
        whole = text.format(secret)
        start = whole.index(secret)
        assert any(
            one.start <= start and start + len(secret) <= one.end
            for one in GUARD.check(whole, context)
        ), (kind, text)


@pytest.mark.parametrize("kind", sorted(LOOKALIKES))
def test_what_looks_like_a_secret(kind: str, context: GuardContext) -> None:
    """Nothing is found."""
    rng = random.Random(kind)
    for _ in range(10):
        assert [] == list(GUARD.check(f"see {LOOKALIKES[kind](rng)} there", context))


@pytest.mark.parametrize("kind", ["github", "npm", "grafana"])
def test_a_wrong_checksum(kind: str, context: GuardContext) -> None:
    """Such a token was never given out."""
    rng = random.Random(kind)
    for _ in range(10):
        token = SECRETS[kind](rng)
        wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
        assert [] == list(GUARD.check(f"see {wrong} there", context))


@pytest.mark.parametrize("kind", ["rsa", "pkcs8", "ssh", "pkcs8_escaped", "ec_indented"])
def test_a_private_key_is_one_finding_to_its_last_line(kind: str, context: GuardContext) -> None:
    """From its first dash to its last, and not further."""
    key = SECRETS[kind](random.Random(kind))
    text = f"Here:\n{key}\nThanks, that is all."
    assert [("secret.private_key", key)] == [
        (one.category, text[one.start : one.end]) for one in GUARD.check(text, context)
    ]


def test_a_private_key_without_an_end(context: GuardContext) -> None:
    """Ends with the last line that can be of it."""
    key = SECRETS["rsa"](random.Random(1)).rpartition("\n")[0]
    text = f"{key}\n\n- Is this right?"
    (found,) = GUARD.check(text, context)
    assert (0, True) == (found.start, len(key) <= found.end <= len(key) + 2)


@pytest.mark.parametrize("kind", sorted(SECRETS))
def test_a_secret_that_comes_in_pieces_is_held(kind: str, piece: GuardContext) -> None:
    """From the window on, wherever it is cut, a finding reaches from its start to the cut."""
    secret = SECRETS[kind](random.Random(kind))
    assert GUARD.window is not None
    for cut in range(GUARD.window, len(secret), 7):
        text = "So: " + secret[:cut]
        assert any(
            one.is_open and one.start <= 4 and one.end == len(text)
            for one in GUARD.check(text, piece)
        ), (kind, cut)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('password="{}"', True),
        ("My password is {}", True),
        ("DB_PASSWORD: {}", True),
        ("client-secret => '{}'", True),
        ("Mein Passwort lautet {}", True),
        ("The word {} is random", False),
        ("password({})", False),
    ],
)
def test_a_password_by_the_name_in_front_of_it(
    text: str, value: bool, context: GuardContext
) -> None:
    """The name makes it one."""
    secret = password(random.Random(text))
    whole = text.format(secret)
    found = [whole[one.start : one.end] for one in GUARD.check(whole, context)]
    assert ([secret] if value else []) == found


@pytest.mark.parametrize(
    "text",
    [
        "password = get_password()",
        "token: string",
        "secret = os.environ['X']",
        "api_key=config.settings.api_key",
        "password: required, at least 8 characters",
        "password=${DB_PASSWORD}",
        "postgres://user:password@localhost/db",
        "postgres://user:${PASSWORD}@localhost/db",
        "https://example.com:443/a@b",
        "eyJub3RqYXNvbg.eyJub3RqYXNvbg.signature",
        "Authorization: Bearer <token>",
    ],
)
def test_code_and_placeholders(text: str, context: GuardContext) -> None:
    """They hold no secret."""
    assert [] == list(GUARD.check(text, context))


def test_an_authorization_header(context: GuardContext) -> None:
    """Its value is the secret."""
    token = some(random.Random(3), "abcdefghijkmnpqrstuvwxyzABCDEFGH23456789", 40)
    text = f"Authorization: Bearer {token}"
    assert token in [text[one.start : one.end] for one in GUARD.check(text, context)]


def test_there_are_at_least_forty_formats() -> None:
    """Of as many providers."""
    categories = {rule.category for rule in GUARD.rules}
    assert len(categories) > 80


def test_categories_can_be_left_out(context: GuardContext) -> None:
    """They are not looked for."""
    guard = SecretsGuard(exclude=["secret.assignment"])
    assert [] == list(guard.check(f"password={password(random.Random(1))}", context))
    with pytest.raises(ConfigurationError, match=r"secret\.nothing"):
        SecretsGuard(exclude=["secret.nothing"])
