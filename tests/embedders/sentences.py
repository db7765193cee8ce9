"""Texts of many kinds, made by rule: the same in every run."""

from __future__ import annotations

import random

__all__ = ["sentences"]

SUBJECTS = ("the invoice", "my password", "our flight to Oslo", "el pedido", "die Rechnung", "注文")
VERBS = ("reset", "cancel", "NOT cancel", "pay", "translate", "übersetzen", "отменить")
ENDS = ("?", "!", ".", " -- today", " by 3:15 pm", " for $1,299.99", " in Zürich", " 🙂", "\n\tnow")


def sentences(count: int) -> list[str]:
    """So many texts, of one word to some hundred."""
    chance = random.Random(384)
    made = []
    for _ in range(count):
        parts = [
            f"How do I {chance.choice(VERBS)} {chance.choice(SUBJECTS)}{chance.choice(ENDS)}"
            for _ in range(chance.choice((1, 1, 1, 2, 3, 8)))
        ]
        made.append(" ".join(parts)[: chance.choice((5, 40, 1000))])
    return made
