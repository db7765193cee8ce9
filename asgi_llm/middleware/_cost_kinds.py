"""What requests of one caller for one model have in common: found once, and then looked up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from asgi_llm._semconv import Operation
from asgi_llm.middleware._cost_budgets import BudgetPlan, BudgetPlanner
from asgi_llm.middleware._cost_prices import Pricer
from asgi_llm.middleware._cost_request import NO_TAGS, OPERATIONS, read_tags
from asgi_llm.pricing import CompiledPrice
from asgi_llm.stores._journal_rows import pack_shared, pack_source
from asgi_llm.types import BudgetRule, Document, PriceSource, Principal

__all__ = ["Kind", "Kinds", "Place"]

_MAX_KINDS: Final = 4096
_BY_TOKENS: Final = frozenset(("chat", "text_completion", "embeddings", "moderation"))
_CHATS: Final = frozenset(("/v1/chat/completions", "/v1/messages"))
_MAX_PLACES: Final = 64
_NOBODY: Final = Principal()


class Place:
    """Where calls of one kind are served.

    Attributes:
        provider: Who serves them.
        model: The provider's name for the model.
        price: What they cost there; None where that is not known.
        shared: What their rows have in common, in bytes; empty where a text cannot be written.
        source: Where the price was from at first.
        packed_source: The same in bytes.
    """

    __slots__ = ("model", "packed_source", "price", "provider", "shared", "source")

    def __init__(
        self,
        provider: str | None,
        model: str | None,
        price: CompiledPrice | None,
        shared: bytes,
        source: PriceSource | None,
    ) -> None:
        self.provider = provider
        self.model = model
        self.price = price
        self.shared = shared
        self.source = source
        self.packed_source = pack_source(source)


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
        own: Budgets of the caller's own, as they were last.
        plan: The budgets that it spends from, with these.
    """

    __slots__ = (
        "_places",
        "_pricer",
        "asker",
        "by_tokens",
        "first",
        "is_chat",
        "model",
        "operation",
        "own",
        "path",
        "plan",
        "principal",
        "resolved",
        "tags",
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
        self._pricer = pricer
        self._places: dict[tuple[str | None, str | None], Place] = {}
        target = self.resolved.priced[0].target
        self.first = self.place(target.provider, target.model)

    def place(self, provider: str | None, model: str | None) -> Place:
        """The place of that name."""
        found = self._places.get((provider, model))
        if found is None:
            price = self._pricer.price_of(self.resolved, provider, model)
            row = None if price is None else price.compiled(time.time())[0]
            source = None if row is None else row.row.source
            found = Place(provider, model, price, self._shared(provider, model), source)
            if len(self._places) >= _MAX_PLACES:
                self._places.clear()
            self._places[provider, model] = found
        return found

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
            # The id of a principal that is gone may be another's.
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
            kind.own = own
        return kind, plan

    def _make(self, asker: Principal | None, path: str, model: str, document: Document) -> Kind:
        tags = read_tags(document, asker, self._tag_names)
        return Kind(asker, path, model, tags or NO_TAGS, self._pricer)
