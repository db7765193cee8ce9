"""What requests of one caller for one model have in common: found once, and then looked up."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Final

from asgi_llm._semconv import Operation
from asgi_llm.middleware._cost_budgets import BudgetPlan, BudgetPlanner
from asgi_llm.middleware._cost_prices import Pricer
from asgi_llm.middleware._cost_quick import SLOTS, slot_of
from asgi_llm.middleware._cost_request import NO_TAGS, OPERATIONS, read_tags
from asgi_llm.pricing import CompiledPrice
from asgi_llm.pricing.compiled import TextRates
from asgi_llm.stores._journal_rows import ONE_ROW, pack_result, pack_shared
from asgi_llm.types import BudgetRule, Cost, Deployment, Document, PriceSource, Principal, Usage

__all__ = ["Kind", "Kinds", "Place"]

_MAX_KINDS: Final = 4096
_BY_TOKENS: Final = frozenset(("chat", "text_completion", "embeddings", "moderation"))
_CHATS: Final = frozenset(("/v1/chat/completions", "/v1/messages"))
_MAX_PLACES: Final = 64
_SMALL: Final = 10**9
_NOBODY: Final = Principal()
_NO_USAGE: Final = Usage()


class Place:
    """Where calls of one kind are served.

    Attributes:
        provider: Who serves them.
        model: The provider's name for the model.
        price: What they cost there; None where that is not known.
        shared: What their rows have in common, in bytes; empty where a text cannot be written.
        head: The same as it stands before a single row.
        since: From when the following holds, in Unix time; ``renew`` brings it up to date.
        until: To when it holds.
        rates: What text costs, where nothing else decides; None: see ``price``.
        source: Where these rates are from.
        ending: What rows of the usual result have at their end, in bytes.
    """

    __slots__ = (
        "ending",
        "head",
        "model",
        "price",
        "provider",
        "rates",
        "shared",
        "since",
        "source",
        "until",
    )

    def __init__(
        self, provider: str | None, model: str | None, price: CompiledPrice | None, shared: bytes
    ) -> None:
        self.provider = provider
        self.model = model
        self.price = price
        self.shared = shared
        self.head = ONE_ROW + shared if shared else b""
        self.since, self.until = inf, -inf
        self.rates: TextRates | None = None
        self.source: PriceSource | None = None
        self.ending = b""

    def renew(self, seconds: float) -> None:
        """Find what holds at a Unix time."""
        row = None
        self.since, self.until = -inf, inf
        if self.price is not None:
            self.since, self.until, row = self.price.span(seconds)
        self.rates = None
        if row is None or row.text is None or not self.shared:
            return
        self.source = row.row.source
        cost = Cost(amount_usd=None, source=self.source)
        try:
            self.ending = pack_result(
                1, "complete", _NO_USAGE, cost, 200, None, None, False, None, row.text.usd
            )
        except ValueError:
            return
        self.rates = row.text


class Kind:
    """Requests of one caller, for one model, by one path, with the same tags.

    Attributes:
        asker: Who asks, as the state has it.
        principal: The same, or nobody.
        path: The route.
        operation: What is asked for.
        by_tokens: Whether it is paid for by its tokens, as a rule.
        is_chat: Whether it consists of messages.
        model: As the client names it.
        tags: Of the request and of its caller.
        resolved: Where it may be served.
        first: The first of these.
        made: Where the last usual call was served, as the state has it.
        made_place: The place of that.
        own: Budgets of the caller's own, as they were last.
        plan: The budgets that it spends from, with these.
        spends: Whether there are any.
        since: From when ``most`` holds, in Unix time; ``renew`` brings it up to date.
        until: To when it holds.
        most: The most that text costs, in pico-USD: a token of the input, one of the output, and
            the request as such; None where that depends on more, or is not known.
        most_input: The first of these, where ``is_small``.
        most_output: The second.
        most_request: The third.
        is_small: Whether these are there, and what they make with two numbers of 31 bits has less
            than 64.
    """

    __slots__ = (
        "_places",
        "_pricer",
        "asker",
        "by_tokens",
        "first",
        "is_chat",
        "is_small",
        "made",
        "made_place",
        "model",
        "most",
        "most_input",
        "most_output",
        "most_request",
        "operation",
        "own",
        "path",
        "plan",
        "principal",
        "resolved",
        "since",
        "spends",
        "tags",
        "until",
    )

    def __init__(
        self,
        asker: Principal | None,
        path: str,
        model: str,
        tags: Mapping[str, str],
        pricer: Pricer,
    ) -> None:
        self.asker = asker
        self.principal = asker or _NOBODY
        self.path = path
        self.operation: Operation = OPERATIONS.get(path, "chat")
        self.by_tokens = self.operation in _BY_TOKENS
        self.is_chat = path in _CHATS
        self.model = model
        self.tags = tags
        self.resolved = pricer.resolve(model)
        self.own: tuple[BudgetRule, ...] = ()
        self.plan: BudgetPlan | None = None
        self.spends = False
        self.since, self.until = inf, -inf
        self.most: tuple[int, int, int] | None = None
        self.most_input = self.most_output = self.most_request = 0
        self.is_small = False
        self._pricer = pricer
        self._places: dict[tuple[str | None, str | None], Place] = {}
        target = self.resolved.priced[0].target
        self.first = self.place(target.provider, target.model)
        self.made: Deployment | None = None
        self.made_place = self.first

    def renew(self, seconds: float) -> None:
        """Find ``most`` at a Unix time."""
        self.since, self.until, bounds = self.resolved.span(seconds)
        self.most = None
        self.is_small = False
        if bounds is not None and len(bounds) == 1 and len(bounds[0].steps) == 1:
            (bound,) = bounds
            self.most = (bound.steps[0].input, bound.steps[0].output, bound.per_request)
            if min(self.most) >= 0 and max(self.most) <= _SMALL:
                self.most_input, self.most_output, self.most_request = self.most
                self.is_small = True

    def place(self, provider: str | None, model: str | None) -> Place:
        """The place of that name."""
        found = self._places.get((provider, model))
        if found is None:
            price = self._pricer.price_of(self.resolved, provider, model)
            found = Place(provider, model, price, self._shared(provider, model))
            if len(self._places) >= _MAX_PLACES:
                self._places.clear()
            self._places[provider, model] = found
        return found

    def place_made(self, made: Deployment) -> Place:
        """The place of a deployment, which is the very object of the last call as a rule."""
        if made is not self.made:
            place = self.first
            if made.model != place.model or made.provider != place.provider:
                place = self.place(made.provider, made.model)
            self.made, self.made_place = made, place
        return self.made_place

    def _shared(self, provider: str | None, model: str | None) -> bytes:
        principal = self.principal
        try:
            return pack_shared(
                self.operation,
                self.model,
                model,
                provider,
                None if provider is None else f"{provider}/{model}",
                principal.key_id,
                principal.user_id,
                principal.team_id,
                principal.organization_id,
                self.tags,
            )
        except ValueError:
            return b""


class Kinds:
    """Finds the kind of a request.

    Kinds are remembered by the identity of the principal, which as a rule comes out of a cache of
    keys and is the same object for every request of a key; those whose client sends tags are not.

    Args:
        pricer: Knows where models are served.
        planner: Knows the budgets.
        tag_names: Tags that count; None is all.
        has_own: Whether callers may have budgets of their own.
    """

    __slots__ = ("_has_own", "_kinds", "_planner", "_pricer", "_recent", "_tag_names")

    def __init__(
        self,
        pricer: Pricer,
        planner: BudgetPlanner,
        tag_names: frozenset[str] | None,
        *,
        has_own: bool,
    ) -> None:
        self._pricer = pricer
        self._planner = planner
        self._tag_names = tag_names
        self._has_own = has_own
        self._kinds: dict[tuple[int, str, str], Kind] = {}
        # By ``slot_of``: what is likely to come again is found without a key being made.
        self._recent: list[Kind | None] = [None] * SLOTS

    def settled(self, asker: Principal | None, path: str, model: str) -> Kind | None:
        """The kind of a request without tags of its own, where it and its plan are there to stay.

        Args:
            asker: Who asks, as the state has it.
            path: The route.
            model: As the client names it.
        """
        slot = slot_of(asker, model)
        kind = self._recent[slot]
        if kind is not None and kind.asker is asker and kind.path == path and kind.model == model:
            return kind
        if self._has_own:
            return None
        kind = self._kinds.get((id(asker), path, model))
        if kind is None or kind.asker is not asker or kind.plan is None:
            return None
        self._recent[slot] = kind
        return kind

    def find(
        self, asker: Principal | None, path: str, model: str, document: Document
    ) -> tuple[Kind, BudgetPlan]:
        """The kind of a request, and the budgets that it spends from.

        Raises:
            ConfigurationError: A budget of the caller's own makes no sense.
        """
        if "metadata" in document:
            kind = self._make(asker, path, model, document)
        else:
            known = self._kinds.get((id(asker), path, model))
            # The id of a principal that is gone may be another's by now.
            if known is None or known.asker is not asker:
                known = self._make(asker, path, model, document)
                if len(self._kinds) >= _MAX_KINDS:
                    self._kinds.clear()
                self._kinds[id(asker), path, model] = known
            kind = known
        plan = kind.plan
        own = self._planner.own(asker) if self._has_own else ()
        if plan is None or own is not kind.own:
            kind.plan = plan = self._planner.find(asker, model, kind.tags, own)
            kind.spends = len(plan.demands) > 0
            kind.own = own
        return kind, plan

    def _make(self, asker: Principal | None, path: str, model: str, document: Document) -> Kind:
        tags = read_tags(document, asker, self._tag_names)
        return Kind(asker, path, model, tags or NO_TAGS, self._pricer)
