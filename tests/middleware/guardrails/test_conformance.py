"""The layer keeps what every layer promises, but for what guards on answers have to hold back."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.middleware.guardrails import Guardrail, GuardrailsMiddleware
from asgi_llm.testing.conformance import Check, Example, Layer, checks
from asgi_llm.types import Principal
from tests.middleware.guardrails.probes import emails, words

SETTINGS: dict[str, dict[str, Any]] = {
    "no guard": {},
    "input": {"input": [Guardrail(guard=emails(), action="redact"), words("forbidden")]},
    "input in parallel": {"input": [words("forbidden")], "parallel": True},
    "observed": {"input": [words("Hello")], "output": [words("three")], "mode": "observe"},
    "flagged": {"output": [Guardrail(guard=words("three"), action="flag")]},
}
HOLDING: dict[str, dict[str, Any]] = {
    "output": {"output": [Guardrail(guard=emails(), action="redact")]},
    "both": {"input": [emails()], "output": [words("forbidden"), emails()]},
    "whole answers": {"output": [words("forbidden", window=None)]},
}
HELD_BACK = ("chunks_leave_before_the_next_is_asked_for",)


def layer_of(settings: dict[str, Any]) -> Layer:
    return lambda app: GuardrailsMiddleware(app, **settings)


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_alone(settings: dict[str, Any], check: Check) -> None:
    """Where answers are not held back, the layer alone passes the whole suite."""
    await check(layer_of(settings))


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
@pytest.mark.parametrize("settings", HOLDING.values(), ids=HOLDING)
async def test_holding(settings: dict[str, Any], check: Check) -> None:
    """Where answers are held back, it passes all but the check that forbids just that."""
    if check.__name__ in HELD_BACK:
        with pytest.raises(AssertionError, match="had not left"):
            await check(layer_of(settings))
        return
    await check(layer_of(settings))


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
async def test_inside_authentication(check: Check) -> None:
    """Inside the layer that says who is calling it passes as well."""

    async def known(key: str) -> Principal | None:
        return Principal(key_id="k1", team_id="t1") if key == "sk-test" else None

    def layer(app: Any) -> Any:
        rail = Guardrail(guard=words("forbidden"), scopes=["team:t*"], models=["echo*"])
        return AuthMiddleware(GuardrailsMiddleware(app, input=[rail]), keys=known)

    await check(layer, Example(headers=((b"authorization", b"Bearer sk-test"),)))
