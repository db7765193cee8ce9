"""Names, addresses and other things without a form, by a model of language.

The extra ``guards-entities`` is Presidio; GLiNER comes with its own package. Both are loaded when
a guard is made, and run in threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Finding, GuardContext, GuardCost

__all__ = ["EntitiesGuard", "Recognizer", "gliner", "presidio"]

_PIECE: Final = 4000
_OVERLAP: Final = 100


class Recognizer(Protocol):
    """Finds entities."""

    def __call__(self, text: str) -> Sequence[tuple[int, int, str, float]]:
        """Start, end, kind and score of each. Runs in a thread."""
        ...


class EntitiesGuard:
    """Finds what a recognizer finds, in pieces of 4000 characters that overlap by 100.

    Args:
        recognizer: ``presidio(...)``, ``gliner(...)``, or one of your own.
        categories: Kind to category, such as ``{"PERSON": "pii.name"}``. Others are ignored.
        threshold: Lower scores are left out. From 0 to 1.
        name: Names it in verdicts.

    Raises:
        ConfigurationError: An option is wrong.
    """

    cost: ClassVar[GuardCost] = "thread"
    window: int | None = None

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        categories: Mapping[str, str],
        threshold: float = 0.5,
        name: str = "entities",
    ) -> None:
        if not categories:
            raise ConfigurationError("categories must not be empty", param="categories")
        if not 0 <= threshold <= 1:
            raise ConfigurationError("threshold must be from 0 to 1", param="threshold")
        self.name = name
        self._recognize = recognizer
        self._categories = dict(categories)
        self._threshold = threshold

    def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        """The entities in ``text``."""
        found: dict[tuple[int, int, str], Finding] = {}
        for offset in range(0, max(1, len(text) - _OVERLAP), _PIECE - _OVERLAP):
            for start, end, kind, score in self._recognize(text[offset : offset + _PIECE]):
                category = self._categories.get(kind)
                if category is None or score < self._threshold:
                    continue
                place = (offset + start, offset + end, category)
                found[place] = Finding(
                    start=place[0],
                    end=place[1],
                    category=category,
                    score=min(1.0, score),
                    reason="a model of language says so",
                )
        return [found[place] for place in sorted(found)]


def presidio(
    *, language: str = "en", kinds: Sequence[str] = ("PERSON", "LOCATION"), analyzer: Any = None
) -> Recognizer:
    """A recognizer that is Presidio's.

    Args:
        language: Two letters, one that the analyzer has.
        kinds: Presidio's names of what to look for.
        analyzer: An ``AnalyzerEngine``. Default: Presidio's own, which needs its spaCy model to be
            installed.

    Raises:
        ConfigurationError: Presidio is not installed.
    """
    if analyzer is None:
        analyzer = require("presidio_analyzer", extra="guards-entities").AnalyzerEngine()

    def recognize(text: str) -> Sequence[tuple[int, int, str, float]]:
        results = analyzer.analyze(text=text, language=language, entities=list(kinds))
        return [(one.start, one.end, one.entity_type, one.score) for one in results]

    return recognize


def gliner(
    path: str | None = None,
    *,
    labels: Sequence[str] = ("person", "address"),
    model: Any = None,
) -> Recognizer:
    """A recognizer that is a GLiNER model.

    Args:
        path: Folder of the model's files; nothing is fetched.
        labels: What to look for, in words.
        model: A loaded model, in place of ``path``.

    Raises:
        ConfigurationError: gliner is not installed, or neither a path nor a model is given.
    """
    if model is None:
        if path is None:
            raise ConfigurationError("give the path of a model", param="path")
        model = require("gliner", extra="guards-entities").GLiNER.from_pretrained(
            path, local_files_only=True
        )

    def recognize(text: str) -> Sequence[tuple[int, int, str, float]]:
        results = model.predict_entities(text, list(labels))
        return [(one["start"], one["end"], one["label"], one["score"]) for one in results]

    return recognize
