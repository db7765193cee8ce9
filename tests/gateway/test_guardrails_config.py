"""The layer ``guardrails`` of a configuration: every option has its place, and every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._definitions import ServerDefinition
from asgi_llm.gateway._guardrails_definitions import GuardrailsDefinition
from asgi_llm.gateway._guardrails_layer import GuardrailsLayer
from asgi_llm.gateway._reload_carried import Carried
from asgi_llm.gateway.build import build, load_gateway
from asgi_llm.gateway.config import load
from asgi_llm.gateway.health import Health
from asgi_llm.middleware.guardrails import Guardrail

ECHO = "providers: {e: {type: echo}}\n"


def first_problem(tmp_path: Path, text: str) -> str:
    """The first line of the error for a file with ``text`` behind the provider's line."""
    file = tmp_path / "gateway.yaml"
    file.write_text(ECHO + text)
    environ = {"HOOK": "https://user:hunter2@example.com/", "SECRET": "hunter2"}
    with pytest.raises(ConfigurationError) as caught:
        build(load(file, environ=environ))
    assert "hunter2" not in caught.value.message
    return caught.value.message.splitlines()[0].removeprefix(f"{tmp_path}/")


CASES = {
    "no guard": (
        "stack: [{guardrails: {input: [{action: flag}]}}]\n",
        "gateway.yaml:2:31: stack[0].guardrails.input[0]: the guard is missing; give one of pii, "
        "secrets, injection, ",
    ),
    "two guards": (
        "stack: [{guardrails: {output: [{pii: {}, secrets: {}}]}}]\n",
        "gateway.yaml:2:32: stack[0].guardrails.output[0]: pii and secrets: two guards; give one "
        "of pii, ",
    ),
    "a guard that is none": (
        "stack: [{guardrails: {input: [{pi: {}}]}}]\n",
        "gateway.yaml:2:32: stack[0].guardrails.input[0].pi: unknown key, did you mean pii?",
    ),
    "an option of a guard": (
        "stack: [{guardrails: {input: [{pii: {region: [US]}}]}}]\n",
        "gateway.yaml:2:38: stack[0].guardrails.input[0].pii.region: unknown key, "
        "did you mean regions?",
    ),
    "a region": (
        "stack: [{guardrails: {input: [{pii: {regions: [usa]}}]}}]\n",
        "gateway.yaml:2:48: stack[0].guardrails.input[0].pii.regions[0]: expected two capital "
        "letters, as in DE, got another value",
    ),
    "a category": (
        "stack: [{guardrails: {input: [{pii: {categories: [pii.mail]}}]}}]\n",
        "gateway.yaml:2:38: stack[0].guardrails.input[0].pii.categories: 'pii.mail' is none of ",
    ),
    "an action": (
        "stack: [{guardrails: {input: [{pii: {}, action: remove}]}}]\n",
        "gateway.yaml:2:49: stack[0].guardrails.input[0].action: expected one of block, flag, "
        "redact, got 'remove'",
    ),
    "a role": (
        "stack: [{guardrails: {input: [{pii: {}, roles: [developer]}]}}]\n",
        "gateway.yaml:2:49: stack[0].guardrails.input[0].roles[0]: expected one of ",
    ),
    "a pattern": (
        "stack: [{guardrails: {input: [{regex: {patterns: {x: '(?=a)'}}}]}}]\n",
        "gateway.yaml:2:51: stack[0].guardrails.input[0].regex.patterns.x: the pattern is "
        "refused: ",
    ),
    "a pattern that matches nothing": (
        "stack: [{guardrails: {input: [{regex: {patterns: {x: 'a*'}}}]}}]\n",
        "gateway.yaml:2:51: stack[0].guardrails.input[0].regex.patterns.x: the pattern matches the "
        "empty text",
    ),
    "a sign": (
        "stack: [{guardrails: {input: [{injection: {signs: [{family: x, weight: 1, pattern: "
        "'('}]}}]}}]\n",
        "gateway.yaml:2:44: stack[0].guardrails.input[0].injection.signs: injection.x: the pattern "
        "is refused: ",
    ),
    "a missing list": (
        "stack: [{guardrails: {input: [{words: {}}]}}]\n",
        "gateway.yaml:2:39: stack[0].guardrails.input[0].words.words: the key is missing",
    ),
    "a short canary": (
        "stack: [{guardrails: {output: [{canary: {canaries: ['${SECRET}']}}]}}]\n",
        "gateway.yaml:2:42: stack[0].guardrails.output[0].canary.canaries: a canary needs at least "
        "8 letters and digits",
    ),
    "a length": (
        "stack: [{guardrails: {input: [{length: {}}]}}]\n",
        "gateway.yaml:2:32: stack[0].guardrails.input[0].length.max_characters: give "
        "max_characters or max_tokens",
    ),
    "a language": (
        "stack: [{guardrails: {input: [{language: {allowed: [xx]}}]}}]\n",
        "gateway.yaml:2:43: stack[0].guardrails.input[0].language.allowed: allowed must be some "
        "of ar, ",
    ),
    "a schema": (
        "stack: [{guardrails: {output: [{json: {schema: {$ref: 'https://x/y'}}}]}}]\n",
        "gateway.yaml:2:40: stack[0].guardrails.output[0].json.schema: a reference may not leave "
        "the document",
    ),
    "a repair": (
        "stack: [{guardrails: {output: [{pii: {}, repair: true}]}}]\n",
        "gateway.yaml:2:42: stack[0].guardrails.output[0].repair: the guard 'pii' has no method "
        "repair",
    ),
    "a retry": (
        "stack: [{guardrails: {output: [{json: {}, retry: true, action: flag}]}}]\n",
        "gateway.yaml:2:43: stack[0].guardrails.output[0].retry: retry needs the action block",
    ),
    "an address with a password": (
        "stack: [{guardrails: {input: [{moderation: {url: '${HOOK}'}}]}}]\n",
        "gateway.yaml:2:45: stack[0].guardrails.input[0].moderation.url: the URL holds a user name "
        "or a password",
    ),
    "an address in the open": (
        "stack: [{guardrails: {input: [{moderation: {url: 'http://example.com/'}}]}}]\n",
        "gateway.yaml:2:45: stack[0].guardrails.input[0].moderation.url: the URL has to begin with "
        "https://",
    ),
    "a weak secret": (
        "stack: [{guardrails: {input: [{webhook: {url: 'https://x.example/', secret: "
        "'${SECRET}'}}]}}]\n",
        "gateway.yaml:2:69: stack[0].guardrails.input[0].webhook.secret: secret must have at least "
        "16 characters",
    ),
    "a key for digests": (
        "stack: [{guardrails: {digest_key: '${SECRET}'}}]\n",
        "gateway.yaml:2:23: stack[0].guardrails.digest_key: digest_key must have at least 16 bytes",
    ),
    "digests of several workers": (
        "server: {workers: 3}\nstack: [{guardrails: {placeholders: digest}}]\n",
        "gateway.yaml:3:10: stack[0].guardrails.digest_key: there are 3 workers, and each would "
        "make digests of its own",
    ),
    "an audit for nobody": (
        "stack: [{guardrails: {audit: {log: false}}}]\n",
        "gateway.yaml:2:31: stack[0].guardrails.audit.log: nobody is told: give log or webhook",
    ),
    "an audit's secret": (
        "stack: [{guardrails: {audit: {webhook: {url: 'https://x.example/', secret: "
        "'${SECRET}'}}}}]\n",
        "gateway.yaml:2:68: stack[0].guardrails.audit.webhook.secret: secret must have at least 16 "
        "characters",
    ),
    "a package that is not there": (
        "stack: [{guardrails: {input: [{gliner: {path: /models/x}}]}}]\n",
        "gateway.yaml:2:32: stack[0].guardrails.input[0].gliner: gliner is not installed; run: pip "
        "install 'asgi-llm[guards-entities]'",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_mistake_has_its_place(tmp_path: Path, name: str) -> None:
    """File, line, column and key path, and no secret."""
    text, expected = CASES[name]
    assert first_problem(tmp_path, text)[: len(expected)] == expected


async def test_every_option_reaches_the_layer(tmp_path: Path) -> None:
    """All guards that need nothing else, and all options, each away from its default."""
    rails = [
        {"pii": {"regions": ["DE"], "categories": ["pii.email"], "threshold": 0.4}},
        {"secrets": {"exclude": ["secret.assignment"], "name": "keys"}, "action": "redact"},
        {
            "injection": {
                "threshold": 0.5,
                "signs": [{"family": "own", "weight": 0.7, "pattern": "be evil"}],
            },
            "roles": ["user", "tool"],
        },
        {"links": {"allowed_hosts": ["example.com"], "all_links": True}, "min_score": 0.2},
        {"canary": {"canaries": ["bluebird-1234"]}, "mode": "observe"},
        {"system_leak": {"least_words": 5}, "action": "flag"},
        {"words": {"words": ["a b"], "category": "own"}, "models": ["gpt-*"]},
        {"topics": {"topics": {"law": ["court", "judge"]}, "least": 1}, "scopes": ["tier:free"]},
        {"regex": {"patterns": {"a.b": "x+y"}, "max_length": 20}},
        {"length": {"max_characters": 10, "max_tokens": 5}},
        {"language": {"allowed": ["en"], "threshold": 0.7}},
        {"json": {"schema": {"type": "object"}, "objects_only": True}, "repair": True},
        {
            "moderation": {
                "url": "http://127.0.0.1:1/v1/moderations",
                "private": True,
                "api_key": "k",
                "model": "m",
                "thresholds": {"*": 0.5},
            },
            "on_error": "allow",
            "timeout_seconds": 1,
        },
        {"webhook": {"url": "https://x.example/", "secret": "0123456789abcdef", "window": 9}},
    ]
    layer = {
        "input": rails,
        "output": rails,
        "mode": "observe",
        "parallel": True,
        "reversible": False,
        "placeholders": "digest",
        "digest_key": "0123456789abcdef",
        "tell_header": False,
        "stream_error_event": True,
        "audit": {
            "log": False,
            "webhook": {
                "url": "http://127.0.0.1:1/",
                "secret": "0123456789abcdef",
                "private": True,
            },
            "timeout_seconds": 1,
        },
        "threads": 1,
        "max_answer_bytes": 1000,
        "max_held_characters": 1000,
    }
    gateway = load_gateway({"providers": {"e": {"type": "echo"}}, "stack": [{"guardrails": layer}]})
    assert {"guardrails": True} == await gateway.health.parts()
    await gateway.aclose()


def definition_of(stack: str, tmp_path: Path) -> GuardrailsDefinition:
    """The layer of a file."""
    file = tmp_path / "gateway.yaml"
    file.write_text(ECHO + stack)
    [layer] = load(file, environ={}).configuration.stack
    assert isinstance(layer, GuardrailsDefinition)
    return layer


def test_equal_guards_are_one(tmp_path: Path) -> None:
    """Their rules are compiled once, whatever becomes of their findings."""
    definition = definition_of(
        "stack:\n"
        "  - guardrails:\n"
        "      input: [{pii: {regions: [DE]}, action: redact}, {pii: {}}]\n"
        "      output: [{pii: {regions: [DE]}, min_score: 0.9}]\n",
        tmp_path,
    )
    made = GuardrailsLayer(ServerDefinition(), Health(), Carried().hold()).make(definition)
    options: dict[str, Any] = dict(made.kwargs)
    first, other = options["input"]
    [again] = options["output"]
    assert isinstance(first, Guardrail)
    assert first.guard is again.guard
    assert first.guard is not other.guard
    assert ("redact", "block", 0.9) == (first.action, again.action, again.min_score)


def test_a_guard_without_options_may_be_left_empty(tmp_path: Path) -> None:
    """As ``- pii:`` is written, with the action below."""
    text = "stack:\n  - guardrails:\n      input:\n        - pii:\n          action: redact\n"
    [rail] = definition_of(text, tmp_path).input
    assert "redact" == rail.action
    assert first_problem(tmp_path, text + "          actoin: x\n").endswith(
        "actoin: unknown key, did you mean action?"
    )
