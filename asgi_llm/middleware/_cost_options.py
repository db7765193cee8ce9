"""What the options of the cost layer may be."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._cost_worst import MAX_TOKENS

__all__ = ["check_options", "drain_seconds"]


def check_options(
    *,
    mode: str,
    on_store_error: str,
    on_max_cost: str,
    refusal_status: int,
    above_zero: Mapping[str, float | None],
    input_margin: float,
    max_cost_usd: Decimal | None,
    default_output_tokens: int,
    max_output_tokens: Mapping[str, int],
) -> None:
    """Refuse options that make no sense.

    Args:
        mode: As in ``CostMiddleware``, like the others.
        on_store_error: As there.
        on_max_cost: As there.
        refusal_status: As there.
        above_zero: Those that have to be above 0 or None, by their names.
        input_margin: As there.
        max_cost_usd: As there.
        default_output_tokens: As there.
        max_output_tokens: As there.

    Raises:
        ConfigurationError: One is wrong; ``param`` names it.
    """
    for option, value, choices in (
        ("mode", mode, ("enforce", "observe")),
        ("on_store_error", on_store_error, ("allow", "deny")),
        ("on_max_cost", on_max_cost, ("refuse", "clamp")),
        ("refusal_status", refusal_status, (400, 402, 429)),
    ):
        if value not in choices:
            words = " or ".join(map(str, choices))
            raise ConfigurationError(f"{option} must be {words}, not {value!r}", param=option)
    for option, number in above_zero.items():
        if number is not None and not number > 0:
            raise ConfigurationError(f"{option} must be above 0, not {number!r}", param=option)
    if not 1 <= input_margin <= 100:
        raise ConfigurationError("input_margin must be from 1 to 100", param="input_margin")
    if max_cost_usd is not None and not (max_cost_usd.is_finite() and max_cost_usd >= 0):
        raise ConfigurationError("max_cost_usd must be at least 0", param="max_cost_usd")
    for option, tokens in (
        ("default_output_tokens", default_output_tokens),
        *((f"max_output_tokens.{pattern}", most) for pattern, most in max_output_tokens.items()),
    ):
        if type(tokens) is not int or not 0 <= tokens <= MAX_TOKENS:
            raise ConfigurationError(
                f"{option} must be a whole number from 0 to {MAX_TOKENS}, not {tokens!r}",
                param=option,
            )


def drain_seconds(on_disconnect: str | float) -> float | None:
    """How long an answer goes on without its client: 0 is not at all, None to its end.

    Raises:
        ConfigurationError: ``on_disconnect`` is none of what it may be.
    """
    if on_disconnect == "cancel":
        return 0.0
    if on_disconnect == "drain":
        return None
    if (
        isinstance(on_disconnect, int | float)
        and not isinstance(on_disconnect, bool)
        and 0 <= on_disconnect < float("inf")
    ):
        return float(on_disconnect)
    raise ConfigurationError(
        f"on_disconnect must be cancel, drain or a number of seconds, not {on_disconnect!r}",
        param="on_disconnect",
    )
