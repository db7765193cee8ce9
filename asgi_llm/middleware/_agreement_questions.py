"""What a question asks for: a cause, a time, a way, yes or no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from asgi_llm.middleware._agreement_pattern import Pattern

__all__ = ["Aim", "Question", "Tense", "may_ask_the_same", "read_question"]

Aim = Literal[
    "cause",
    "time",
    "place",
    "person",
    "way",
    "duration",
    "quantity",
    "degree",
    "yes_or_no",
    "what",
    "order",
    "unknown",
]

Tense = Literal["past", "present", "future"]


class Question(msgspec.Struct, frozen=True, gc=False):
    """What is asked for."""

    aim: Aim
    modality: str
    """``ability``, ``duty``, ``advice`` or empty; empty as well where it is a way or an order that
    is asked for, for which "how can I" and "what must I do" are the same."""
    tense: Tense | None
    object_of: str
    """``who`` or ``what`` where it is asked for as the object of a verb: "who does he know"."""


_TIMES: Final = r"(?:milli)?seconds?|minutes?|hours?|days?|weeks?|months?|years?"
_PLEASE: Final = Pattern(
    r"^(?:(?:please|hi|hello|hey|ok|okay|so|and|now) )*"
    r"(?:(?:can|could|would|will) you (?:please |kindly )?(?:tell|show|give|explain to) me "
    r"(?:the |a )?|(?:please )?(?:tell|show|give) me (?:the |a )?|(?:do you know|i wonder|"
    r"i would like to know|i want to know|i need to know|explain|i would like an explanation of) "
    r"(?=how|why|what|when|where|who|which|if|whether))"
)
_PATTERNS: Final[tuple[tuple[Aim, str], ...]] = (
    (
        "order",
        r"^(?:please )?(?:(?:can|could|would|will) you|help me|i need you to|i want you to)\b",
    ),
    (
        "way",
        r"\bwhat (?:do|should|can|must|could|would) (?:i|we|you|one) (?:have to |need to )?do\b"
        r"|\bwhat (?:is|are|would be|s) (?:the |a |an )?"
        r"(?:(?:best|good|right|correct|proper|easiest|quickest|fastest|simplest|easy|simple)"
        r" )?(?:ways?|steps?|process|procedure|method|command|instructions?|shortcut|trick)\b"
        r"|\b(?:what|which) command\b|\bis there (?:a|any) way\b"
        r"|\bhow (?:do|can|could|should|to|would|may|might|must|does one|can one)\b"
        r"(?! (?:[a-z]+ )*?(?:form|happen|occur|differ|work|compare|come)\b)",
    ),
    (
        "cause",
        r"\bwhy\b|\bhow come\b|\bwhat (?:is|are|was|were) the (?:reasons?|causes?)\b"
        r"|\bwhat (?:causes?|caused|makes?|made)\b",
    ),
    (
        "duration",
        rf"\bhow long\b(?! is an? \w+ in)|\bhow many (?:{_TIMES})\b|\bhow much time\b",
    ),
    (
        "time",
        r"\bwhen\b|\b(?:what|which) (?:time|year|date|day|month|age|century)\b"
        r"|\bwhat is the (?:best |right |ideal )?time\b|\bdeadline\b|\bhow old\b"
        r"|\bopening (?:hours|times)\b",
    ),
    ("place", r"\bwhere\b|\bin (?:what|which) (?:place|city|town|country|folder|room)\b"),
    ("person", r"\bwho\b|\bwhom\b|\bwhose\b|\bwhich (?:person|team|player)\b"),
    ("quantity", r"\bhow (?:many|much)\b|\bwhat (?:amount|number)\b|\bwhat is the number\b"),
    ("degree", r"\bhow (?!do|does|did|is|are|was|were|can|to|come)[a-z]+\b"),
    (
        "what",
        r"\bwhat\b|\bwhich\b|\bmeaning of\b|\bhow (?:is|are|was|were|do|does|did)\b",
    ),
    (
        "yes_or_no",
        r"^(?:in [a-z]+ , )?(?:is|are|am|was|were|do|does|did|can|could|may|might|must|should|"
        r"shall|will|would|has|have|had)\b|\bright \?",
    ),
)
_AIMS: Final = tuple((aim, Pattern(pattern)) for aim, pattern in _PATTERNS)
_WHAT: Final = Pattern(r"^(?:explain|describe|define|clarify)\b")
_ORDER: Final = Pattern(
    r"^(?:please )?(?:write|draft|compose|make|create|generate|translate|convert|summarize|"
    r"summarise|list|name|give|find|fix|rewrite|turn|suggest|correct|calculate|compute|improve|"
    r"add|remove|sort|show|tell|help|implement|design|plan|draw|compare|classify|extract|format|"
    r"recommend|shorten|paraphrase|answer|solve|check|review|optimize|refactor)\b"
)
_MODALITIES: Final = (
    (
        "duty",
        Pattern(
            r"\bmust\b|\b(?:have|has|had|need|needs) to\b|\brequired?\b|\bneeds?\b|\bnecessary\b"
        ),
    ),
    ("advice", Pattern(r"\bshould\b|\bought\b|\bbetter\b|\bgood idea\b|\badvisable\b")),
    (
        "ability",
        Pattern(r"\b(?:can|could|may|might|able|possible|allowed|permitted)\b"),
    ),
)
_OBJECT: Final = Pattern(r"\b(who|whom|what) (?:does|do|did) (?!i |we |you |one |it |they )")
_PAST: Final = Pattern(r"\b(?:was|were|did|had)\b")
_PRESENT: Final = Pattern(r"\b(?:is|are|am|do|does|has|have|can|should|may)\b")
_FUTURE: Final = Pattern(r"\bwill\b|\bgoing to\b")

_NEIGHBOURS: Final = frozenset(
    frozenset(pair)
    for pair in (
        ("way", "unknown"),
        ("way", "order"),
        ("what", "order"),
        ("what", "unknown"),
        ("order", "unknown"),
        ("what", "way"),
        ("what", "person"),
        ("what", "time"),
        ("what", "duration"),
        ("what", "quantity"),
        ("what", "degree"),
        ("what", "place"),
        ("what", "cause"),
        ("unknown", "quantity"),
        ("unknown", "degree"),
        ("unknown", "duration"),
        ("unknown", "time"),
        ("unknown", "place"),
        ("order", "quantity"),
        ("order", "degree"),
        ("quantity", "degree"),
        ("quantity", "duration"),
        ("degree", "duration"),
    )
)
"""Aims that go together: "what is the height" and "how high" want one answer."""


def read_question(lowered: Sequence[str]) -> Question:
    """What is asked for.

    Args:
        lowered: The words of the text in lower case, with its marks.
    """
    line = " ".join(lowered)
    # A long prompt asks at its beginning or at its end, and anything may stand in between.
    if len(line) > 600:
        line = f"{line[:300]} {line[-300:]}"
    asked = _PLEASE.sub("", line)
    aim: Aim = "unknown"
    if _WHAT.match(asked):
        aim = "what"
    elif _ORDER.match(asked):
        aim = "order"
    else:
        opening = _AIMS[-1][1].match(asked)
        for name, pattern in _AIMS:
            found = pattern.search(asked)
            # "Is it better to ask when ...": what opens the sentence counts.
            if found is not None and (opening is None or name in ("yes_or_no", "order", "way")):
                aim = name
                break
            if found is not None and opening is not None and found.start() == 0:
                aim = name
                break
    modality = ""
    if aim not in ("way", "order", "unknown"):
        modality = next((name for name, words in _MODALITIES if words.search(asked)), "")
    tense: Tense | None = None
    past, present = _PAST.search(line) is not None, _PRESENT.search(line) is not None
    if _FUTURE.search(line) and not present:
        tense = "future"
    elif past and not present:
        tense = "past"
    elif present and not past:
        tense = "present"
    found_object = _OBJECT.search(asked)
    return Question(aim, modality, tense, "" if found_object is None else found_object[1])


def may_ask_the_same(one: Aim, other: Aim) -> bool:
    """Whether two aims can be of one and the same question."""
    return one == other or frozenset((one, other)) in _NEIGHBOURS
