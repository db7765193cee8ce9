"""What can be measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One app and how it is asked.

    Args:
        factory: ``module:function`` in this folder; imported by the target's own process only.
        model: The request's model name.
        streams: Whether it is measured with streams too.
    """

    factory: str
    model: str = "gpt-4o-mini"
    streams: bool = True


TARGETS = {
    "hello": Target(factory="anchors:hello", streams=False),
    "pass-through": Target(factory="anchors:pass_through"),
    "provider-app": Target(factory="ours:provider_app", model="openai/gpt-4o-mini"),
    "anthropic": Target(factory="ours:anthropic", model="anthropic/claude-sonnet-4-6"),
    "gateway": Target(factory="prebuilt:gateway", model="openai/gpt-4o-mini"),
}
