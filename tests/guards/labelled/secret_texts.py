"""Texts with places for secrets, and the same with what only looks like one."""

from __future__ import annotations

import random
from typing import Final

from asgi_llm.guards.quality import Sample
from tests.guards.labelled.samples import fill_all
from tests.guards.labelled.secret_values import LOOKALIKES, SECRETS, password

__all__ = ["lookalikes", "secrets"]

_TUNING: Final = (
    "export API_KEY={secret}",
    "Why does my call fail? I use {secret} as the key.",
    '{"key": "{secret}", "retries": 3}',
    "client = Client(api_key='{secret}', timeout=30)",
    "curl -H 'X-Api-Key: {secret}' https://api.example.com/v1/items",
    "config:\n  credentials:\n    value: {secret}\n  region: eu",
)
_ONCE: Final = (
    "Here is my .env file:\nPORT=8080\nSERVICE_SECRET={secret}\nDEBUG=false",
    "ich habe {secret} eingetragen, aber es kommt 401",
    "fetch(url, {headers: {'Authorization': 'Bearer {secret}'}})",
    "Please rotate {secret}, it was in the logs of yesterday.",
    "| name | value |\n| prod | {secret} |",
    'log line: auth failed for credential "{secret}" from worker 3',
)
_PASSWORDS_TUNING: Final = (
    "password={password}",
    'db_password: "{password}"',
    "My password is {password}, why is it refused?",
    "DB_PASS={password}\nDB_HOST=localhost",
)
_PASSWORDS_ONCE: Final = (
    "user=admin password={password} host=10.1.1.1",
    "The wifi password is {password}",
    'client_secret = "{password}"',
    "Mein Passwort lautet {password}",
)
_SAFE_TUNING: Final = (
    "commit {sha1} broke the build, {sha256} was fine",
    "checksum: {md5}",
    "The request id is {uuid}.",
    "integrity {integrity}",
    "api_key = {env}",
    "export OPENAI_API_KEY={sk_placeholder}",
    "client = OpenAI(api_key='{sk_your}')",
    "see https://example.com/blog/{slug}",
    "token = get_token(request)",
    "password: str = Field(min_length=8)",
    "git config token {ghp_placeholder}",
    "aws_access_key_id = {aws_example}",
    "{public_key} user@host",
    "{certificate}",
    "<div class='{classes}'>",
    "What is {mention}?",
    "data:image/png;base64,{base64}",
    "order number {digits}",
)
_SAFE_ONCE: Final = (
    "image digest sha256:{sha256}",
    'etag: "{md5}"',
    "trace {uuid} span {video}",
    "password = os.environ['DB_PASSWORD']",
    "const token = await auth.getToken();",
    "secret: {env}",
    "the password is required and must be unique",
    "watch https://video.example.com/watch?v={video}",
    "GET {bare_url} HTTP/1.1",
    "postgres://user:password@localhost:5432/db",
    "redis://default:${REDIS_PASSWORD}@cache:6379".replace("${", "$<").replace("}@", ">@"),
    "token: {mention}",
    'Revert "{slug}" ({sha1})',
    "authorized_keys has {public_key}",
    "{certificate}\nwas issued last week",
    "if (password !== confirmPassword) { return false }".replace("{", "(").replace("}", ")"),
    "the hash of the file is {sha1}, of the folder {sha256}",
    "OPENAI_API_KEY={sk_placeholder}",
)


def secrets(*, once: bool) -> list[Sample]:
    """Some 340 samples, each kind of secret in each kind of text."""
    rng = random.Random(12 if once else 11)
    found = []
    for template in _ONCE if once else _TUNING:
        for kind, make in SECRETS.items():
            filled = template.replace("{secret}", "{" + kind + "}")
            # The braces of JSON and code are no slots.
            found += fill_all([filled], {kind: make}, rng, count=1, label=lambda _: "secret")
    passwords = _PASSWORDS_ONCE if once else _PASSWORDS_TUNING
    found += fill_all(passwords, {"password": password}, rng, count=40, label=lambda _: "secret")
    return found


def lookalikes(*, once: bool) -> list[Sample]:
    """More than 300 samples without any secret."""
    rng = random.Random(14 if once else 13)
    templates = _SAFE_ONCE if once else _SAFE_TUNING
    return fill_all(templates, LOOKALIKES, rng, count=360, label=lambda _: None)
