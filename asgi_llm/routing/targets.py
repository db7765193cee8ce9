"""What a model's name of one's own stands for: routes, and the targets on them."""

from __future__ import annotations

from math import inf

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.providers.capabilities import Capabilities
from asgi_llm.types import Deployment

__all__ = ["Fallbacks", "Route", "Target"]


class Target(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A deployment, and what a router has to know of it. A reload makes a new one.

    Raises:
        ConfigurationError: A figure is out of its range.
    """

    deployment: Deployment
    weight: float = 1.0
    """Its share of what comes, against those of the others; at least 0. 0: only when they fail.
    The strategies ``ordered`` and ``cheapest`` do without."""
    region: str | None = None
    """Where its data stays, as a policy names it; None: not known, so no policy allows it."""
    capabilities: Capabilities | None = None
    """What can be asked of it; None: everything, as far as is known."""
    context_tokens: int | None = None
    """What input and output may have together, above 0; None: not known."""
    max_output_tokens: int | None = None
    """Above 0; None: not known."""
    price: float | None = None
    """Any figure by which targets can be compared, such as the USD for a million tokens in and as
    many out; at least 0. None: not known, which is never cheap."""
    id: str = ""
    """``provider/model``: the key of its load and its breaker. Filled in where it is empty."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < inf:
            raise ConfigurationError("weight must be at least 0", param="weight")
        if self.price is not None and not 0 <= self.price < inf:
            raise ConfigurationError("price must be at least 0", param="price")
        for name in ("context_tokens", "max_output_tokens"):
            tokens = getattr(self, name)
            if tokens is not None and tokens < 1:
                raise ConfigurationError(f"{name} must be above 0", param=name)
        if not self.id:
            name = f"{self.deployment.provider}/{self.deployment.model}"
            msgspec.structs.force_setattr(self, "id", name)


class Fallbacks(msgspec.Struct, frozen=True, kw_only=True):
    """Names of further routes to try, in their order, by what went wrong."""

    errors: tuple[str, ...] = ()
    """After a failure of the provider's."""
    context_length: tuple[str, ...] = ()
    """After ``context_length_exceeded``: routes with a larger context."""
    content_filter: tuple[str, ...] = ()
    """After the provider's content filter refused."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A model's name, and the targets that serve it.

    Raises:
        ConfigurationError: There is no target, one is there twice, or it falls back to itself.
    """

    name: str
    targets: tuple[Target, ...]
    strategy: str = "ordered"
    """A key of ``routing.strategies.STRATEGIES``."""
    fallbacks: Fallbacks = Fallbacks()

    def __post_init__(self) -> None:
        if not self.targets:
            raise ConfigurationError(f"the model {self.name!r} has no target", param="targets")
        ids = [target.id for target in self.targets]
        twice = next((one for one in ids if ids.count(one) > 1), None)
        if twice is not None:
            raise ConfigurationError(
                f"the model {self.name!r} has the target {twice!r} twice", param="targets"
            )
        fallbacks = self.fallbacks
        named = (*fallbacks.errors, *fallbacks.context_length, *fallbacks.content_filter)
        if self.name in named:
            raise ConfigurationError(
                f"the model {self.name!r} cannot fall back to itself", param="fallbacks"
            )
