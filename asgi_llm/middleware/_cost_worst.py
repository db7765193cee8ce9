"""The most that a request can cost, within what its client and its operator want to pay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from asgi_llm.errors import BudgetExceededError, InvalidRequestError
from asgi_llm.middleware._cost_kinds import Kind
from asgi_llm.middleware._cost_prices import Pricer
from asgi_llm.middleware._cost_quick import has_any, small_int, with_margin
from asgi_llm.middleware._cost_request import (
    MAX_COST_FIELD,
    MAX_COST_HEADER,
    UNTOLD,
    clamp_output,
    read_max_cost,
)
from asgi_llm.middleware._cost_rows import Asked
from asgi_llm.middleware._limit_cost import reserve_output
from asgi_llm.middleware._limit_plan import model_of
from asgi_llm.pricing import format_usd
from asgi_llm.state import State
from asgi_llm.stores.budgets import from_pico, to_pico
from asgi_llm.types import Document
from asgi_llm.wire.tokens import UNUSUAL_FIELDS, EstimatedTokens, TokenCounter, estimate_messages

__all__ = ["MAX_TOKENS", "WorstCase"]

MAX_TOKENS: Final = 2**31 - 1

# What makes more of a chat than messages, and a limit of its output.
_UNUSUAL: Final = UNUSUAL_FIELDS | frozenset(
    (
        *("service_tier", "speed", "prediction", "modalities"),
        *("n", "best_of", "max_output_tokens", MAX_COST_FIELD),
    )
)


class WorstCase:
    """Finds the most that a request can cost, which is what budgets reserve for it.

    Args:
        pricer: Knows the prices.
        counter: Counts the input.
        margin: An estimate of the input is taken this many times.
        default_output: Tokens of the output where nobody says more.
        max_output: The most that models of a pattern give in one choice.
        cap: The most that any request may cost, in USD; ``UNTOLD``: there is no such cap.
        clamps: Whether the output of a request over its cap is cut down, and it is not refused.
        enforce: Whether anything is refused or cut down.

    Attributes:
        refusals: Requests that were refused, or would have been.
    """

    __slots__ = (
        "_cap",
        "_clamps",
        "_counter",
        "_default_output",
        "_enforce",
        "_is_plain",
        "_margin",
        "_max_output",
        "_pricer",
        "refusals",
    )

    def __init__(
        self,
        pricer: Pricer,
        counter: TokenCounter,
        *,
        margin: float,
        default_output: int,
        max_output: Mapping[str, int],
        cap: Decimal,
        clamps: bool,
        enforce: bool,
    ) -> None:
        self._pricer = pricer
        self._counter = counter
        self._margin = margin
        self._default_output = default_output
        self._max_output = max_output
        self._cap = cap
        self._clamps = clamps
        self._enforce = enforce
        # Nothing but the request itself decides.
        self._is_plain = type(counter) is EstimatedTokens and cap is UNTOLD and not max_output
        self.refusals = 0

    async def find(self, state: State, asked: Asked) -> tuple[int, Document]:
        """The most that a request can cost, in pico-USD, and the request within its cap.

        Raises:
            InvalidRequestError: The request contradicts itself, or its price is not known and has
                to be.
            BudgetExceededError: It may cost more than its cap.
        """
        count = await self._counter.count(asked.document, asked.kind.model)
        asked.input_tokens = count.tokens
        reserved = count.tokens if count.exact else int(count.tokens * self._margin) + 1
        return self._within_cap(state, asked, reserved)

    def count_plain(self, headers: Mapping[bytes, bytes], kind: Kind, document: Document) -> int:
        """The input of a plain chat, whose cost only texts decide; below 0: it is none."""
        if (
            not (self._is_plain and kind.is_chat)
            or has_any(document, _UNUSUAL)
            or MAX_COST_HEADER in headers
        ):
            return -1
        return estimate_messages(document.get("messages"))

    def amount_of(self, kind: Kind, document: Document, tokens: int, seconds: float) -> int:
        """The most that a plain chat can cost; below 0: it is none.

        Args:
            kind: Of the request.
            document: The request.
            tokens: Of its input, as ``count_plain`` gives them.
            seconds: When it began, in Unix time.
        """
        if tokens < 0:
            return -1
        given = document.get("max_tokens")
        if given is None:
            given = document.get("max_completion_tokens")
            if given is None and "max_completion_tokens" in document:
                return -1
        elif "max_completion_tokens" in document:
            return -1
        output = self._default_output if given is None else small_int(given)
        if output < 0:
            return -1
        if not kind.since <= seconds < kind.until:
            kind.renew(seconds)
        reserved = with_margin(tokens, self._margin)
        if kind.is_small and reserved <= MAX_TOKENS:
            return kind.most_input * reserved + kind.most_output * output + kind.most_request
        most = kind.most
        if most is not None:
            return most[0] * reserved + most[1] * output + most[2]
        bounds = kind.resolved.bounds(seconds)
        if bounds is None:
            return -1
        return max([bound.amount(reserved, output) for bound in bounds])

    def _within_cap(self, state: State, asked: Asked, reserved: int) -> tuple[int, Document]:
        document, kind = asked.document, asked.kind
        path = kind.path
        try:
            output, _ = reserve_output(
                document, path, kind.model, default=self._default_output, most=self._max_output
            )
            cap = read_max_cost(state, document)
            if self._cap is not UNTOLD:
                cap = min(cap, self._cap)
        except InvalidRequestError:
            if self._enforce:
                raise
            output, cap = self._default_output, UNTOLD

        def worst(document: Document, output_tokens: int) -> tuple[int, bool]:
            return self._pricer.worst(
                kind.resolved,
                document,
                path,
                seconds=asked.seconds,
                input_tokens=reserved,
                output_tokens=output_tokens,
                choice_tokens=output_tokens,
            )

        amount, is_known = worst(document, output)
        if not is_known and self._pricer.blocks_unknown:
            self.refusals += 1
            if self._enforce:
                raise InvalidRequestError(
                    "The price of this model is not known, and calls without a known price are "
                    "not let through.",
                    param="model",
                    code="unknown_price",
                )
        if cap is not UNTOLD and amount > (most := to_pico(cap)):
            self.refusals += 1
            if self._enforce:
                clamped = None
                if self._clamps:
                    clamped = clamp_output(
                        document, path, output, lambda one: self._fits(one, path, worst, most)
                    )
                if clamped is None:
                    raise BudgetExceededError(
                        f"This request may cost up to {format_usd(from_pico(amount))} USD, and it "
                        f"is to cost no more than {format_usd(cap)} USD.",
                        param=MAX_COST_FIELD,
                        code="max_cost_exceeded",
                        headers=[(b"x-should-retry", b"false")],
                    )
                document = clamped
                amount, _ = worst(document, self._output(document, path))
        return amount, document

    def _output(self, document: Document, path: str) -> int:
        output, _ = reserve_output(
            document,
            path,
            model_of(document),
            default=self._default_output,
            most=self._max_output,
        )
        return output

    def _fits(
        self,
        document: Document,
        path: str,
        worst: Callable[[Document, int], tuple[int, bool]],
        most: int,
    ) -> bool:
        return worst(document, self._output(document, path))[0] <= most
