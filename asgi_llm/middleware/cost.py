"""What calls cost: priced, held to budgets, and written down before anybody can lose them."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from typing import Final, Literal, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm._asgi import BufferedBody, send_error
from asgi_llm._body import ArrivingBody
from asgi_llm.errors import (
    ConfigurationError,
    InternalError,
    InvalidRequestError,
    LLMError,
)
from asgi_llm.middleware._budget_alerts import Alerts, BudgetAlert, Notify
from asgi_llm.middleware._budget_calls import BudgetCalls
from asgi_llm.middleware._cost_account import Meterage
from asgi_llm.middleware._cost_admission import Admission
from asgi_llm.middleware._cost_answer import CostedAnswer
from asgi_llm.middleware._cost_books import Books
from asgi_llm.middleware._cost_budgets import BudgetPlanner, RefusalStatus
from asgi_llm.middleware._cost_driving import drive
from asgi_llm.middleware._cost_gate import Gate
from asgi_llm.middleware._cost_kinds import Kinds
from asgi_llm.middleware._cost_options import check_options, drain_seconds
from asgi_llm.middleware._cost_prices import CostTarget, Pricer, UnknownPrice
from asgi_llm.middleware._cost_request import UNTOLD
from asgi_llm.middleware._cost_worst import WorstCase
from asgi_llm.middleware._model_access import INFERENCE_PATHS, is_upload
from asgi_llm.middleware._webhook import Post, SignedWebhook
from asgi_llm.pricing import PriceTable, load_prices
from asgi_llm.state import FAILURE, State
from asgi_llm.stores.budgets import BudgetRule, BudgetStore
from asgi_llm.stores.budgets_memory import MemoryBudgets
from asgi_llm.stores.ledger import Journal, Ledger
from asgi_llm.types import Document, Principal
from asgi_llm.wire._explain import name_kind
from asgi_llm.wire.tokens import EstimatedTokens, TokenCounter
from asgi_llm.wire.upload import Upload

__all__ = ["BudgetAlert", "CostMiddleware", "CostTarget", "Notify", "Post", "SignedWebhook"]

logger = logging.getLogger(__name__)

MIB: Final = 1024 * 1024


class CostMiddleware:
    """Prices every call, holds it to budgets, and writes a row for each attempt at a provider.

    Before the call the most that it can cost is reserved on all budgets that concern the caller, or
    on none, and the journal gets an intent. After it the usage that an app inside has left in the
    state, else what the answer says, else an estimate is priced; budgets are settled and rows
    written before the last byte leaves. A price that is not known is a state of its own, and never
    zero.

    Only POSTs to the inference paths count; all else passes untouched. Who is calling is the
    principal in the state. A budget whose scope the caller has no id for does not concern it.

    Args:
        prices: What models cost. Default: ``load_prices()``, which needs the extra ``cost``.
        targets: Where a model's name may be served, fallbacks included, of which the dearest is
            reserved; called once for each name. Default: ``provider/model`` is taken apart.
        provider: The provider of a name that says none.
        unknown_price: What becomes of a model without a price: ``flag`` lets it pass and says so in
            its row, ``block`` answers 400, a number of USD per request or a price (as in
            ``asgi_llm.pricing.Overrides``) stands in for it.
        budgets: For every request.
        budgets_of: The budgets of a caller besides, as its key's record has them.
        budget_store: Where budgets are kept. Default: the memory of this process.
        journal: Where this worker writes before a call and after it. None: nothing is on disk.
        ledger: Gets the rows itself where there is no journal; with one, whoever ships that feeds
            the ledger.
        on_disconnect: What becomes of a call whose client leaves: ``cancel`` ends it at once,
            ``drain`` lets it go on to its end, a number of seconds for so long.
        on_store_error: What becomes of a request when budgets cannot be checked or the journal
            cannot be written: ``allow`` lets it through, ``deny`` answers 503.
        store_timeout_seconds: Deadline of a call of the budget store, above 0; None: it needs none.
            A store that has its own (an attribute ``timeout_seconds``) keeps that.
        mode: ``observe`` reserves and records, and refuses and clamps nothing.
        max_cost_usd: The most that one request may cost, whatever its client says; None: no cap.
        on_max_cost: What becomes of a request that may cost more than its cap, of this option or of
            the client's own (header ``X-Max-Cost`` or field ``max_cost_usd``): ``refuse`` or
            ``clamp``, which lowers the limit of its output.
        refusal_status: Of the answer where a budget has no room: 400, 402 or 429.
        tell_cost: Whether answers have the headers ``X-Cost`` and ``X-Cost-Saved``, and the last
            event of a stream whose client asked for usage the field ``cost``.
        tag_names: Entries of ``metadata`` that are kept as tags; None is all.
        notify: Told of each share of a budget that is reached; None: only the log is.
        default_output_tokens: Taken for the output of one choice where neither the client nor
            ``max_output_tokens`` says more, at least 0.
        max_output_tokens: The most that models of a pattern (as in ``fnmatch``) give in one choice.
            The first that fits counts.
        service_tiers: Service tiers that the accounts can be set to, whose prices count for the
            most that a request can cost; None is ``flex`` and ``priority``.
        token_counter: Counts the input, and the output where nobody says it. Default: a token for
            every four bytes.
        input_margin: An estimate of the input is reserved times this, at least 1.
        lease_seconds: How long the reservation of a worker that died is kept, above 0.
        inference_paths: Where a POST counts, as ``route_path`` gives the path.
        max_body_bytes: Cap on a body that is read here, above 0.
        body_timeout_seconds: How long it may take, above 0.
        clock: Seconds, monotonic.
        wall_clock: Unix time in seconds.

    Streaming: chunks pass as they come; the last 64 KiB are kept. See ``CostedAnswer``.

    Raises:
        ConfigurationError: An option is wrong; ``param`` names it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        prices: PriceTable | None = None,
        targets: Callable[[str], Sequence[CostTarget]] | None = None,
        provider: str = "openai",
        unknown_price: UnknownPrice = "flag",
        budgets: Sequence[BudgetRule] = (),
        budgets_of: Callable[[Principal], Sequence[BudgetRule]] | None = None,
        budget_store: BudgetStore | None = None,
        journal: Journal | None = None,
        ledger: Ledger | None = None,
        on_disconnect: Literal["cancel", "drain"] | float = "cancel",
        on_store_error: Literal["allow", "deny"] = "allow",
        store_timeout_seconds: float | None = 0.25,
        mode: Literal["enforce", "observe"] = "enforce",
        max_cost_usd: Decimal | None = None,
        on_max_cost: Literal["refuse", "clamp"] = "refuse",
        refusal_status: RefusalStatus = 400,
        tell_cost: bool = True,
        tag_names: Collection[str] | None = None,
        notify: Notify | None = None,
        default_output_tokens: int = 4096,
        max_output_tokens: Mapping[str, int] | None = None,
        service_tiers: Collection[str] | None = None,
        token_counter: TokenCounter | None = None,
        input_margin: float = 1.5,
        lease_seconds: float = 60.0,
        inference_paths: Collection[str] = INFERENCE_PATHS,
        max_body_bytes: int = 32 * MIB,
        body_timeout_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        check_options(
            mode=mode,
            on_store_error=on_store_error,
            on_max_cost=on_max_cost,
            refusal_status=refusal_status,
            above_zero={
                "store_timeout_seconds": store_timeout_seconds,
                "lease_seconds": lease_seconds,
                "max_body_bytes": max_body_bytes,
                "body_timeout_seconds": body_timeout_seconds,
            },
            input_margin=input_margin,
            max_cost_usd=max_cost_usd,
            default_output_tokens=default_output_tokens,
            max_output_tokens=max_output_tokens or {},
        )
        self.app = app
        pricer = Pricer(
            load_prices() if prices is None else prices,
            targets=targets,
            provider=provider,
            unknown=unknown_price,
            service_tiers=service_tiers,
        )
        kinds = Kinds(
            pricer,
            BudgetPlanner(budgets, budgets_of),
            None if tag_names is None else frozenset(tag_names),
            has_own=budgets_of is not None,
        )
        self._alerts = Alerts(notify, now=self._utc, logger=logger)
        self._calls = BudgetCalls(
            MemoryBudgets(clock=wall_clock) if budget_store is None else budget_store,
            timeout_seconds=store_timeout_seconds,
            lease_seconds=lease_seconds,
            clock=clock,
            logger=logger,
            on_settled=lambda plan, uses: self._alerts.check(plan.concerned, uses),
        )
        self._books = Books(
            journal=journal,
            ledger=ledger,
            calls=self._calls,
            alerts=self._alerts,
            clock=clock,
            logger=logger,
        )
        counter = EstimatedTokens() if token_counter is None else token_counter
        self._enforce = mode == "enforce"
        self._worst = WorstCase(
            pricer,
            counter,
            margin=input_margin,
            default_output=default_output_tokens,
            max_output=dict(max_output_tokens or {}),
            cap=UNTOLD if max_cost_usd is None else max_cost_usd,
            clamps=on_max_cost == "clamp",
            enforce=self._enforce,
        )
        meterage = Meterage(
            pricer,
            self._books,
            counter,
            clock,
            tells=tell_cost,
            drain_seconds=drain_seconds(on_disconnect),
        )
        self._admission = Admission(
            kinds=kinds,
            worst=self._worst,
            calls=self._calls,
            books=self._books,
            meterage=meterage,
            enforce=self._enforce,
            deny=on_store_error == "deny",
            refusal_status=refusal_status,
            wall_clock=wall_clock,
        )
        gate = Gate(inference_paths, max_body_bytes, self._admission, self._go_on, self._refuse)
        self._take_in = gate.take_in
        self._body_timeout = body_timeout_seconds
        self._max_body_bytes = max_body_bytes
        self._wall_clock = wall_clock

    @property
    def refusals(self) -> int:
        """Requests that were refused, or would have been."""
        return self._admission.refusals + self._worst.refusals

    @property
    def store_failures(self) -> int:
        """Calls of the budget store, the journal or the ledger that failed or were too late."""
        return self._calls.failures + self._books.failures

    @property
    def pending(self) -> int:
        """Settlements and rows in memory that their store has not taken yet."""
        return self._calls.unsettled + self._books.unrecorded

    @property
    def lost(self) -> int:
        """Settlements and rows that were given up, because too many were pending."""
        return self._calls.lost + self._books.lost

    async def aclose(self) -> None:
        """Give the stores what they have not taken. They are closed by whoever made them."""
        await self._calls.aclose()
        await self._books.aclose()
        await self._alerts.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._take_in(self.app, scope, receive, send)

    async def _go_on(
        self,
        app: ASGIApp,
        scope: Scope,
        receive: Receive,
        send: Send,
        state: State,
        path: str,
        body: bytes | ArrivingBody,
    ) -> None:
        """Answer a request that the gate could not take in at once."""
        try:
            answer = None
            if type(body) is ArrivingBody:
                data = await body.whole(self._body_timeout)
                if data is None:
                    return
                answer = self._admission.admit_at_once(scope, receive, send, state, path, data)
            else:
                data = cast("bytes", body)
            if answer is None:
                buffered = BufferedBody(data, receive)
                scope, answer = await self._admit(scope, send, state, path, buffered)
        except LLMError as error:
            await self._refuse(send, state, error)
        else:
            await drive(app, scope, answer)

    async def _admit(
        self, scope: Scope, send: Send, state: State, path: str, body: BufferedBody
    ) -> tuple[Scope, CostedAnswer]:
        document: Document = {}
        is_form = is_upload(scope, path)
        try:
            if is_form:
                document = await self._form(scope, body.data)
            else:
                document = state.document(body.data)
                if type(document) is not dict:
                    raise _no_object(document)
        except InvalidRequestError:
            if self._enforce:
                raise
            document, is_form = {}, True
        return await self._admission.admit(scope, send, state, path, body, document, is_form)

    async def _refuse(self, send: Send, state: State, failure: LLMError) -> None:
        if isinstance(failure, ConfigurationError):
            logger.error("a caller's own budgets cannot be read: %s", failure.message)
            failure = InternalError("The budgets of this caller cannot be checked.")
        state.set(FAILURE, failure)
        await send_error(send, state, failure)

    async def _form(self, scope: Scope, data: bytes) -> Document:
        upload = await Upload.read_head(
            scope, BufferedBody(data, _nothing_more).receive, max_bytes=self._max_body_bytes
        )
        if upload is None:
            return {}
        async with upload:
            return upload.document()

    def _utc(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._wall_clock(), datetime.UTC)


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}


def _no_object(document: object) -> InvalidRequestError:
    return InvalidRequestError(
        f"The body has to be a JSON object, got {name_kind(document)}.", code="invalid_type"
    )
