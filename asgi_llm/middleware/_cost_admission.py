"""Whether a call is made: its worst cost is reserved, and it is written down before it begins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from starlette.types import Receive, Scope, Send

from asgi_llm import _json
from asgi_llm._body import BufferedBody
from asgi_llm._tasks import finish
from asgi_llm.errors import InvalidRequestError, StoreError
from asgi_llm.middleware._budget_calls import BudgetCalls
from asgi_llm.middleware._cost_account import Meterage
from asgi_llm.middleware._cost_answer import CostedAnswer, make_answer
from asgi_llm.middleware._cost_books import Books
from asgi_llm.middleware._cost_budgets import BudgetPlan, RefusalStatus, refusal
from asgi_llm.middleware._cost_kinds import Kinds
from asgi_llm.middleware._cost_quick import wall
from asgi_llm.middleware._cost_request import MAX_COST_FIELD, wants_usage
from asgi_llm.middleware._cost_worst import WorstCase
from asgi_llm.middleware._limit_plan import model_of
from asgi_llm.middleware._model_access import UPLOAD_PATHS, is_upload
from asgi_llm.state import PRINCIPAL, State
from asgi_llm.types import Document

__all__ = ["Admission"]

_STREAMED_WITH_USAGE: Final = frozenset(("/v1/chat/completions", "/v1/completions"))


class Admission:
    """Admits requests, or refuses them.

    Args:
        kinds: Finds what requests have in common.
        worst: Finds the most that they can cost.
        calls: Reserves that.
        books: Where they are written down.
        meterage: What their answers share.
        enforce: Whether anything is refused.
        deny: Whether a request is refused that cannot be checked or written down.
        refusal_status: Of the answer where a budget has no room.
        wall_clock: Unix time in seconds.

    Attributes:
        refusals: Requests that a budget had no room for, refused or not.
    """

    __slots__ = (
        "_books",
        "_calls",
        "_deny",
        "_enforce",
        "_has_own_clock",
        "_kinds",
        "_memory",
        "_meterage",
        "_refusal_status",
        "_wall_clock",
        "_worst",
        "refusals",
    )

    def __init__(
        self,
        *,
        kinds: Kinds,
        worst: WorstCase,
        calls: BudgetCalls,
        books: Books,
        meterage: Meterage,
        enforce: bool,
        deny: bool,
        refusal_status: RefusalStatus,
        wall_clock: Callable[[], float],
    ) -> None:
        self._kinds = kinds
        self._worst = worst
        self._calls = calls
        self._memory = calls.memory
        self._books = books
        self._meterage = meterage
        self._enforce = enforce
        self._deny = deny
        self._refusal_status: RefusalStatus = refusal_status
        self._wall_clock = wall_clock
        self._has_own_clock = wall_clock is not time.time
        self.refusals = 0

    def admit_at_once(
        self, scope: Scope, receive: Receive, send: Send, state: State, path: str, data: bytes
    ) -> CostedAnswer | None:
        """``admit`` for a plain chat that nobody has to be waited for; None: nothing was done.

        Args:
            scope: Of the request.
            receive: The host's.
            send: The client's.
            state: Of the request.
            path: Its route.
            data: Its body.

        Raises:
            LLMError: It is not to be made.
        """
        if path in UPLOAD_PATHS and is_upload(scope, path):
            return None
        try:
            document = state.document(data)
        except InvalidRequestError:
            if self._enforce:
                raise
            return None
        if type(document) is not dict:
            return None
        return self._admit_known(receive, send, state, path, data, document)

    def _admit_known(
        self,
        receive: Receive,
        send: Send,
        state: State,
        path: str,
        data: bytes,
        document: Document,
    ) -> CostedAnswer | None:
        model = document.get("model")
        if type(model) is not str:
            return None
        kind = self._kinds.settled(state.get(PRINCIPAL), path, model)
        plan = None if kind is None else kind.plan
        if kind is None or plan is None:
            return None
        tokens = self._worst.count_plain(state.headers, kind, document)
        if tokens < 0 or "metadata" in document:
            return None
        told = False
        if document.get("stream") is True and path in _STREAMED_WITH_USAGE:
            if not wants_usage(document):
                return None
            told = True
        memory = self._memory
        if kind.spends and memory is None:
            return None
        seconds = self._wall_clock() if self._has_own_clock else wall()
        amount = self._worst.amount_of(kind, document, tokens, seconds)
        if amount < 0:
            return None
        body = BufferedBody.__new__(BufferedBody)
        body.data = data
        body._receive = receive
        body._given = False
        answer = make_answer(
            self._meterage,
            body.receive,
            send,
            state,
            seconds,
            kind,
            plan,
            document,
            tokens,
            True,
        )
        lease = ""
        if kind.spends and memory is not None:
            lease = answer.id
            try:
                held = memory.hold_at_once(plan.demands, amount, lease)
            except StoreError:
                held = False
            if not held:
                return None
            answer.reserve(lease)
        try:
            self._books.intend(answer)
        except StoreError as error:
            if self._deny and self._enforce:
                if lease:
                    self._books.settle_at_once(answer, lease, 0)
                raise _not_written() from error
        if told:
            answer.expect_usage(True, False)
        return answer

    async def admit(
        self,
        scope: Scope,
        send: Send,
        state: State,
        path: str,
        body: BufferedBody,
        document: Document,
        is_form: bool,
    ) -> tuple[Scope, CostedAnswer]:
        """Reserve and note the call; what is needed to make it.

        Raises:
            LLMError: It is not to be made.
        """
        kind, plan = self._kinds.find(state.get(PRINCIPAL), path, model_of(document), document)
        seconds = self._wall_clock()
        tokens = self._worst.count_plain(state.headers, kind, document)
        amount = self._worst.amount_of(kind, document, tokens, seconds)
        answer = make_answer(
            self._meterage,
            body.receive,
            send,
            state,
            seconds,
            kind,
            plan,
            document,
            tokens,
            amount >= 0,
        )
        if amount < 0:
            amount, document = await self._worst.find(state, answer)
        told = hides = False
        if answer.streamed and not is_form and path in _STREAMED_WITH_USAGE:
            told = wants_usage(document)
            if not told:
                hides = True
                options = document.get("stream_options")
                given = options if isinstance(options, dict) else {}
                document = {**document, "stream_options": {**given, "include_usage": True}}
        if MAX_COST_FIELD in document:
            document = {name: value for name, value in document.items() if name != MAX_COST_FIELD}
        if document is not answer.document:
            answer.document = document
            if not is_form:
                scope = body.replace(scope, _json.encode(document))
        lease = ""
        if plan.demands:
            lease = answer.id
            await self._reserve(plan, amount, lease)
        try:
            self._books.intend(answer)
        except StoreError as error:
            if self._deny and self._enforce:
                await self._release(plan, lease)
                raise _not_written() from error
        if lease and self._memory is None:
            self._calls.hold(lease, plan.demands)
        answer.reserve(lease)
        answer.expect_usage(told, hides)
        return scope, answer

    async def _reserve(self, plan: BudgetPlan, amount: int, lease: str) -> None:
        """Reserve ``amount`` on all budgets of ``plan``.

        Raises:
            BudgetExceededError: One of them has no room.
            StoreError: They cannot be checked, and that is not to be let through.
        """
        try:
            decision = await self._calls.reserve(plan.demands, amount, lease, enforce=self._enforce)
        except StoreError as error:
            self._calls.note(error)
            if self._deny and self._enforce:
                # It may have been taken before the answer was lost.
                await self._release(plan, lease)
                raise StoreError("The budgets cannot be checked right now.") from error
            return
        except asyncio.CancelledError:
            await self._release(plan, lease)
            raise
        if not decision.admitted:
            self.refusals += 1
            if self._enforce:
                raise refusal(
                    plan,
                    decision,
                    amount,
                    status=self._refusal_status,
                    now=self._wall_clock(),
                )

    async def _release(self, plan: BudgetPlan, lease: str) -> None:
        """Free what was reserved, however often the request is cancelled meanwhile."""
        if plan.demands:
            await finish(self._calls.settle(plan, lease, 0))


def _not_written() -> StoreError:
    return StoreError("The request cannot be written down right now.")
