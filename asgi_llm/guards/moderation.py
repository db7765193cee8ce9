"""Moderation by any service that has OpenAI's ``/v1/moderations``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Final

import msgspec

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.guards._calls import JsonPost
from asgi_llm.guards.base import Finding, GuardContext, GuardCost
from asgi_llm.transports.base import Transport

__all__ = ["ModerationGuard"]

_NO_LIMITS: Final[Mapping[str, float]] = MappingProxyType({})


class ModerationGuard:
    """Asks a moderation service. Its findings are about the whole text.

    Args:
        url: Of the endpoint, as in ``https://api.openai.com/v1/moderations``.
        transport: The way there. The caller closes it.
        api_key: Sent as the bearer's token.
        model: As the service names it.
        thresholds: Category to the score from which it is found, in place of the service's own
            judgement; ``*`` is for all others.
        timeout_seconds: Deadline of one call, above 0.
        name: Names it in verdicts.

    Raises:
        ConfigurationError: An option is wrong.
    """

    cost: ClassVar[GuardCost] = "remote"
    window: ClassVar[int | None] = None

    def __init__(
        self,
        url: str,
        *,
        transport: Transport,
        api_key: str | None = None,
        model: str | None = "omni-moderation-latest",
        thresholds: Mapping[str, float] = _NO_LIMITS,
        timeout_seconds: float = 5.0,
        name: str = "moderation",
    ) -> None:
        if any(not 0 <= limit <= 1 for limit in thresholds.values()):
            raise ConfigurationError("thresholds must be from 0 to 1", param="thresholds")
        self.name = name
        self._model = model
        self._thresholds = dict(thresholds)
        self._headers = [(b"authorization", b"Bearer " + api_key.encode())] if api_key else []
        self._post = JsonPost(url, transport=transport, timeout_seconds=timeout_seconds)

    async def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        """The categories that the service finds.

        Raises:
            StoreError: It did not answer, or with something else.
        """
        if not text.strip():
            return ()
        document = {"input": text} if self._model is None else {"model": self._model, "input": text}
        answer = await self._post(msgspec.json.encode(document), self._headers)
        try:
            result = answer["results"][0]
            flags = dict(result["categories"])
            scores = {name: float(score) for name, score in result["category_scores"].items()}
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise StoreError("the moderation service answered in another format") from error
        found = []
        for category, flagged in sorted(flags.items()):
            score = scores.get(category, 1.0 if flagged is True else 0.0)
            limit = self._thresholds.get(category, self._thresholds.get("*"))
            if score >= limit if limit is not None else flagged is True:
                found.append(
                    Finding(
                        start=0,
                        end=0,
                        category=f"moderation.{category}",
                        score=min(1.0, max(0.0, score)),
                        reason="the moderation service says so",
                    )
                )
        return found
