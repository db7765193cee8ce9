"""Whether two texts of the same words say them the other way round: A to B, and B to A."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from asgi_llm.middleware._agreement_parts import Reading, Token
from asgi_llm.middleware._agreement_stem import word_list
from asgi_llm.middleware._agreement_synonyms import same_word

__all__ = ["is_turned_round"]

_SYMMETRIC: Final = frozenset(
    map(same_word, word_list("distance difference similarity between compare"))
)
"""What is the same from either side."""

_INVERSE: Final = {"to": "from", "into": "from", "onto": "from"}


def is_turned_round(new: Reading, old: Reading) -> bool:
    """Whether something stands in one text where its counterpart stands in the other."""
    ours, theirs = new.tokens, old.tokens
    if ours == theirs:
        return False
    is_symmetric = not _SYMMETRIC.isdisjoint(new.words) and not _SYMMETRIC.isdisjoint(old.words)
    return (
        (not is_symmetric and _swaps_ends(ours, theirs))
        or _swaps_neighbours(ours, theirs)
        or _swaps_names(new, old)
        or _asks_for_the_other_side(new, old)
    )


def _right_of(tokens: Sequence[Token]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for token in tokens:
        if token.after:
            found.setdefault(token.after, set()).add(token.word)
    return found


def _swaps_ends(ours: Sequence[Token], theirs: Sequence[Token]) -> bool:
    """From A (to B), and from B (to A); or to A, and from A."""
    right_ours, right_theirs = _right_of(ours), _right_of(theirs)
    order_ours = _first_places(ours)
    order_theirs = _first_places(theirs)
    for relation, one_words in right_ours.items():
        other_words = right_theirs.get(relation, set())
        if one_words & other_words:
            continue
        for one in one_words:
            for other in other_words:
                if one not in order_theirs or other not in order_ours:
                    continue
                # What follows here stands before there, and the other way round.
                if order_theirs[one] < order_theirs[other] and order_ours[other] < order_ours[one]:
                    return True
    for to, from_ in _INVERSE.items():
        for one_side, other_side in ((right_ours, right_theirs), (right_theirs, right_ours)):
            crossed = one_side.get(to, set()) & other_side.get(from_, set())
            if crossed - one_side.get(from_, set()) - other_side.get(to, set()):
                return True
    return False


def _first_places(tokens: Sequence[Token]) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, token in enumerate(tokens):
        places.setdefault(token.word, place)
    return places


def _swaps_neighbours(ours: Sequence[Token], theirs: Sequence[Token]) -> bool:
    """A does B, and B does A: three words in a row that stand there in reverse."""
    forward = {
        (ours[at].word, ours[at + 1].word, ours[at + 2].word): ours[at : at + 3]
        for at in range(len(ours) - 2)
    }
    for at in range(len(theirs) - 2):
        reverse = theirs[at : at + 3]
        found = forward.get((reverse[2].word, reverse[1].word, reverse[0].word))
        if found is None or found[0].word == found[2].word:
            continue
        # "Chased by the dog" turns a sentence round, and keeps what it says; so does a compound,
        # as "tax deadline" for "deadline of taxes".
        if (found[2].after == "by") != (reverse[2].after == "by"):
            continue
        if _is_compound(found) != _is_compound(reverse):
            continue
        return True
    return False


def _is_compound(tokens: Sequence[Token]) -> bool:
    return all([token.adjacent for token in tokens[1:]])


def _swaps_names(new: Reading, old: Reading) -> bool:
    """Two names in another order, with one and the same word between them."""
    ours, theirs = new.tokens, old.tokens
    names = set(new.names) | set(old.names)
    places_ours, places_theirs = _first_places(ours), _first_places(theirs)
    shared = [word for word in places_ours if word in names and word in places_theirs]
    for at, one in enumerate(shared):
        for other in shared[at + 1 :]:
            if places_theirs[other] < places_theirs[one] and _between(
                ours, places_ours[one], places_ours[other]
            ) & _between(theirs, places_theirs[other], places_theirs[one]):
                return True
    return False


def _between(tokens: Sequence[Token], start: int, end: int) -> set[str]:
    return {token.word for token in tokens[start + 1 : end]}


def _asks_for_the_other_side(new: Reading, old: Reading) -> bool:
    """Who does A see, and who sees A; what does it cause, and what causes it."""
    asked, other = new.question, old.question
    if asked.aim not in ("person", "what", "cause") or other.aim not in ("person", "what", "cause"):
        return False
    if bool(asked.object_of) == bool(other.object_of):
        return False
    ours, theirs = [token.word for token in new.tokens], [token.word for token in old.tokens]
    if len(ours) < 2 or len(theirs) < 2:
        return False
    if any([token.after == "by" for token in (*new.tokens, *old.tokens)]):
        return False
    subject, verb = (ours, theirs) if asked.object_of else (theirs, ours)
    # The verb comes first where "who" is its subject, and behind the subject where it is not.
    return verb[0] in subject[1:] and subject[0] in verb[1:]
