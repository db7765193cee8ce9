"""The short ways through the guards lose nothing: what they let pass has no finding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asgi_llm.guards.injection import InjectionGuard
from asgi_llm.guards.patterns import scan_together
from asgi_llm.guards.pii import PiiGuard
from asgi_llm.guards.quality import Sample
from asgi_llm.guards.secrets import SecretsGuard
from asgi_llm.middleware._guard_chat import list_simple_texts, read_simple_request
from asgi_llm.middleware._guard_checks import Asked
from asgi_llm.middleware._guard_quick import PanelLook
from asgi_llm.middleware._guard_rail import Guardrail
from asgi_llm.middleware._guard_rules import Panels, read_rules
from asgi_llm.middleware._guard_whole import Found, check_inline
from asgi_llm.types import Document
from tests.guards.labelled import (
    harmless_texts,
    injection_corpus,
    injection_texts,
    pii_texts,
    secret_texts,
)

PII, SECRETS, INJECTION = PiiGuard(), SecretsGuard(), InjectionGuard()
DEFAULTS = [
    Guardrail(guard=PII, action="redact"),
    Guardrail(guard=SECRETS, action="redact"),
    Guardrail(guard=INJECTION, roles=("user", "tool")),
]
INPUT = Panels(read_rules(DEFAULTS, "input", observe=False))
OUTPUT = Panels(read_rules(DEFAULTS[:2], "output", observe=False), INPUT)
EVERYBODY = Panels(read_rules([PII, SECRETS, INJECTION], "input", observe=False))
BEFORE = "You are a helpful assistant. " * 30


def planted() -> list[Sample]:
    found = [*pii_texts.personal(once=False), *secret_texts.secrets(once=False)]
    found += [*injection_texts.jailbreaks()[::3], *injection_texts.direct()[::3]]
    for kind in injection_corpus.KINDS:
        found += injection_corpus.samples(kind)[::9]
    return found


def harmless() -> list[Sample]:
    found = [*pii_texts.numbers(once=False), *pii_texts.wrong(once=False)]
    found += [*secret_texts.lookalikes(once=False), *harmless_texts.ordinary()]
    return [*found, *harmless_texts.full_of_triggers()]


PLANTED, HARMLESS = planted(), harmless()


def chats(text: str) -> Iterator[Document]:
    """Chats that hold a text in a message, or cut in two of them."""
    half = len(text) // 2
    for messages in (
        [("user", text)],
        [("system", "You are a helpful assistant."), ("user", text)],
        [("system", text), ("user", "Why?")],
        [("user", text[:half]), ("user", text[half:])],
        [("system", BEFORE + text[:half]), ("user", text[half:] + BEFORE)],
        [("user", text[:half]), ("assistant", "Go on."), ("user", text[half:]), ("tool", text)],
        [("user", BEFORE + text[:half]), ("assistant", "No."), ("user", text[half:] + BEFORE)],
    ):
        yield {
            "model": "m",
            "messages": [{"role": role, "content": said} for role, said in messages],
        }


def look_of(panels: Panels) -> PanelLook:
    assert panels.every is not None
    assert panels.every.look is not None
    return panels.every.look


def found_in(document: Document, panels: Panels) -> list[Found]:
    assert panels.every is not None
    return check_inline(list_simple_texts(document), panels.every, "input", Asked("m"))


@pytest.mark.parametrize("panels", [INPUT, EVERYBODY], ids=["defaults", "everybody"])
@pytest.mark.parametrize("part", range(4))
def test_no_request_with_a_finding_is_called_clean(panels: Panels, part: int) -> None:
    """Of all categories, in each message of a chat, and across the borders of messages."""
    look = look_of(panels)
    seen: set[str] = set()
    for sample in PLANTED[part::4]:
        for document in chats(sample.text):
            simple = read_simple_request(document)
            assert simple is not None
            if look.judge_request(*simple) == "clean":
                assert [] == found_in(document, panels)
            else:
                seen |= {one.hit.category for one in found_in(document, panels)}
    assert {"pii", "secret", "injection"} == {category.partition(".")[0] for category in seen}


def test_each_category_is_planted() -> None:
    """The texts above have all that the default guards look for."""
    categories = {label.category for sample in PLANTED for label in sample.labels}
    assert {rule.category for rule in PII.rules} <= categories
    assert any(category.startswith("secret") for category in categories)


def test_harmless_requests_are_judged_like_any() -> None:
    """What is nearly a finding is called clean only where it is none."""
    look = look_of(INPUT)
    clean = 0
    for sample in HARMLESS[::2]:
        document = {"messages": [{"role": "user", "content": sample.text}]}
        simple = read_simple_request(document)
        if simple is not None and look.judge_request(*simple) == "clean":
            clean += 1
            assert [] == found_in(document, INPUT)
    assert clean > len(HARMLESS) // 4


def test_no_answer_with_a_finding_is_called_clean() -> None:
    """Nor is one that comes whole."""
    look = look_of(OUTPUT)
    scanner = scan_together([PII, SECRETS])
    judged = set()
    for sample in [*PLANTED, *HARMLESS]:
        verdict = look.judge(sample.text)
        judged.add(verdict)
        if verdict == "clean":
            assert not any(scanner.scan(sample.text))
    assert {"clean", "plain", "unknown"} == judged


def test_no_piece_of_a_stream_with_a_finding_passes() -> None:
    """Wherever the piece ends: what is found there, or may go on there, waits."""
    look = look_of(OUTPUT)
    scanner = scan_together([PII, SECRETS])
    passed = 0
    for sample in [*PLANTED[::2], *HARMLESS[::4]]:
        for end in range(8, len(sample.text) + 1, 7):
            piece = sample.text[:end]
            if look.passes(piece):
                passed += 1
                assert not any(scanner.scan(piece, is_final=False))
    assert passed > 1000
