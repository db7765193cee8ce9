"""Which models there are, and which deployment a model's name means."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from asgi_llm.errors import LLMError, ModelNotFoundError
from asgi_llm.providers.base import ModelCard, Provider
from asgi_llm.types import Deployment, Document

__all__ = ["Catalog"]

logger = logging.getLogger(__name__)

LIST_TTL_SECONDS = 300.0
_MAX_KNOWN = 10_000
FAILED_LIST_TTL_SECONDS = 30.0


@dataclass(slots=True)
class _Listing:
    """What a provider said it has, or None where it could not be asked."""

    cards: dict[str, ModelCard] | None
    expires: float


class Catalog:
    """Names of models, resolved without I/O wherever that is possible.

    Args:
        providers: In the order in which a bare name is looked for.
        models: Aliases. Where there are any, a bare name must be one of them.
        fetch: Asks a provider for its list; raises LLMError.
        clock: Seconds, monotonic.
        capabilities: What a provider can be asked for, by its name, as the models API shows it.
    """

    def __init__(
        self,
        providers: Iterable[Provider],
        models: Mapping[str, Deployment],
        fetch: Callable[[Provider], Awaitable[tuple[ModelCard, ...] | None]],
        clock: Callable[[], float],
        capabilities: Mapping[str, Document],
    ) -> None:
        self.providers = {provider.name: provider for provider in providers}
        self._models = dict(models)
        self._fetch = fetch
        self._clock = clock
        self._capabilities = dict(capabilities)
        self._listings: dict[str, _Listing] = {}
        self._pending: dict[str, asyncio.Future[_Listing]] = {}
        # Grows by what clients ask for, so it is bounded; the aliases stay.
        self._known = dict(self._models)
        self._static = {
            model: Deployment(provider=provider.name, model=model)
            for provider in reversed(self.providers.values())
            for model in provider.models
        }

    async def aclose(self) -> None:
        """Stop asking for lists."""
        for pending in tuple(self._pending.values()):
            pending.cancel()

    def known(self, name: str) -> Deployment | None:
        """The deployment of an alias, of ``provider/model``, or of a name that was found before."""
        found = self._known.get(name)
        if found is not None:
            return found
        provider, slash, model = name.partition("/")
        if not (slash and model and provider in self.providers):
            return None
        return self._remember(name, Deployment(provider=provider, model=model))

    def _remember(self, name: str, deployment: Deployment) -> Deployment:
        if len(self._known) >= _MAX_KNOWN:
            self._known = dict(self._models)
        self._known[name] = deployment
        return deployment

    async def find(self, name: str) -> Deployment:
        """The deployment that ``name`` means: as ``known``, or the first provider that lists it.

        Raises:
            ModelNotFoundError: Nothing has that name; the message names the nearest that has.
        """
        found = self.known(name)
        if found is None and not self._models and name.partition("/")[0] not in self.providers:
            found = await self._bare(name)
        if found is None:
            raise ModelNotFoundError(self._not_found(name))
        return found

    async def _bare(self, name: str) -> Deployment | None:
        if found := self._static.get(name):
            return found
        only = next(iter(self.providers.values()))
        if len(self.providers) == 1 and not only.models:
            return Deployment(provider=only.name, model=name)
        for provider in self.providers.values():
            listing = await self._listing(provider)
            if listing.cards and name in listing.cards:
                return Deployment(provider=provider.name, model=name)
        return None

    def _not_found(self, name: str) -> str:
        known = [*self._models]
        for provider in self.providers.values():
            listing = self._listings.get(provider.name)
            models = [*provider.models, *((listing and listing.cards) or ())]
            known += [f"{provider.name}/{model}" for model in models]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        forms = ", ".join(f"{provider}/<model>" for provider in self.providers)
        return f"The model {name!r} does not exist here.{hint} Names that work: {forms}" + (
            f", {', '.join(sorted(self._models)[:10])}." if self._models else "."
        )

    async def documents(self) -> list[Document]:
        """Every model as an object of the models API: aliases first, then each provider's."""
        listings = await asyncio.gather(*map(self._listing, self.providers.values()))
        known = {
            provider.name: {model: ModelCard(id=model) for model in provider.models}
            | (listing.cards or {})
            for provider, listing in zip(self.providers.values(), listings, strict=True)
        }
        rows: list[Document] = []
        for alias, deployment in self._models.items():
            card = known[deployment.provider].get(deployment.model) or ModelCard(id=alias)
            rows.append(self._describe(alias, deployment.provider, card))
        for provider in self.providers.values():
            for card in known[provider.name].values():
                rows.append(self._describe(f"{provider.name}/{card.id}", provider.name, card))
        return rows

    async def document(self, name: str) -> Document:
        """One model as an object of the models API.

        Raises:
            ModelNotFoundError: There is none of that name.
        """
        deployment = await self.find(name)
        provider = self.providers[deployment.provider]
        listing = await self._listing(provider)
        card = (listing.cards or {}).get(deployment.model)
        if card is None:
            # A provider that could not be asked, or lists nothing, cannot deny a model either.
            if (
                listing.cards
                and name not in self._models
                and deployment.model not in provider.models
            ):
                raise ModelNotFoundError(self._not_found(name))
            card = ModelCard(id=deployment.model)
        return self._describe(name, provider.name, card)

    def _describe(self, name: str, provider: str, card: ModelCard) -> Document:
        document: Document = {
            "id": name,
            "object": "model",
            "created": card.created,
            "owned_by": card.owned_by or provider,
        }
        if provider in self._capabilities:
            document["capabilities"] = self._capabilities[provider]
        return document

    async def _listing(self, provider: Provider) -> _Listing:
        known = self._listings.get(provider.name)
        if known is not None and self._clock() < known.expires:
            return known
        pending = self._pending.get(provider.name)
        if pending is None:
            pending = asyncio.ensure_future(self._ask(provider))
            self._pending[provider.name] = pending
            pending.add_done_callback(lambda _: self._pending.pop(provider.name, None))
        # One caller that leaves must not take the list from the others.
        return await asyncio.shield(pending)

    async def _ask(self, provider: Provider) -> _Listing:
        ttl = LIST_TTL_SECONDS
        cards: dict[str, ModelCard] | None
        try:
            answer = await self._fetch(provider)
            cards = None if answer is None else {card.id: card for card in answer}
        except LLMError as error:
            logger.warning("models of %s could not be listed: %s", provider.name, error.message)
            cards, ttl = None, FAILED_LIST_TTL_SECONDS
        listing = _Listing(cards, self._clock() + ttl)
        self._listings[provider.name] = listing
        return listing
