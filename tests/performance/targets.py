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
        redis: Whether it needs a Redis server.
    """

    factory: str
    model: str = "gpt-4o-mini"
    streams: bool = True
    redis: bool = False


TARGETS = {
    "hello": Target(factory="anchors:hello", streams=False),
    "pass-through": Target(factory="anchors:pass_through"),
    "provider-app": Target(factory="ours:provider_app", model="openai/gpt-4o-mini"),
    "anthropic": Target(factory="ours:anthropic", model="anthropic/claude-sonnet-4-6"),
    "cost": Target(factory="ours:cost", model="openai/gpt-4o-mini"),
    "auth": Target(factory="layers:auth", streams=False),
    "limits": Target(factory="layers:limits", streams=False),
    "limits-redis": Target(factory="layers:limits_redis", streams=False, redis=True),
    "cache-hit": Target(factory="layers:cache_hit", streams=False),
    "cache-miss": Target(factory="layers:cache_miss", streams=False),
    "cache-hit-redis": Target(factory="layers:cache_hit_redis", streams=False, redis=True),
    "guardrails": Target(factory="ours:guardrails", model="openai/gpt-4o-mini"),
    "gateway": Target(factory="prebuilt:gateway", model="openai/gpt-4o-mini"),
}
