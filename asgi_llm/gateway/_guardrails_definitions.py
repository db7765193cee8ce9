"""The layer ``guardrails``, as a configuration file describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from asgi_llm.gateway._definition_types import (
    Definition,
    LayerDefinition,
    Megabytes,
    Mode,
    Seconds,
    Secret,
    Text,
)
from asgi_llm.types import GuardAction

__all__ = [
    "AuditDefinition",
    "AuditWebhookDefinition",
    "GLiNERDefinition",
    "GuardDefinition",
    "GuardrailDefinition",
    "GuardrailsDefinition",
    "InjectionDefinition",
    "ModerationDefinition",
    "PresidioDefinition",
    "RegexDefinition",
    "RemoteGuardDefinition",
    "SignDefinition",
]

Score = Annotated[float, Meta(ge=0, le=1)]
Words = Annotated[tuple[Text, ...], Meta(min_length=1)]
Pattern = Annotated[str, Meta(min_length=1, max_length=10_000)]
Region = Annotated[str, Meta(pattern="^[A-Z]{2}$", extra={"is": "two capital letters, as in DE"})]
Threshold = Annotated[
    Score | None, Meta(description="Findings with a lower score are left out; the guard's own.")
]


class GuardDefinition(Definition, frozen=True, kw_only=True):
    """A guard."""

    name: Annotated[
        Text | None, Meta(description="Names it in verdicts; its type when left out.")
    ] = None


class PiiDefinition(GuardDefinition, frozen=True, kw_only=True):
    """Personal data by form, check digits and the words around."""

    categories: Annotated[
        Words | None, Meta(description="Which to look for, such as pii.email; all if left out.")
    ] = None
    regions: Annotated[
        tuple[Region, ...] | None,
        Meta(description="Countries whose phone numbers are found without the country's code."),
    ] = None
    threshold: Threshold = None


class SecretsDefinition(GuardDefinition, frozen=True, kw_only=True):
    """Secrets by their formats, checksums and randomness."""

    exclude: Annotated[
        tuple[Text, ...], Meta(description="What is not looked for, such as secret.assignment.")
    ] = ()
    threshold: Threshold = None


class SignDefinition(Definition, frozen=True, kw_only=True):
    """Something that attempts at injection have and other texts seldom have."""

    family: Annotated[Text, Meta(description="Its category is injection.FAMILY.")]
    weight: Annotated[Score, Meta(description="The score of a text that has nothing else.")]
    pattern: Annotated[Pattern, Meta(description="In RE2's syntax; case does not matter.")]


class InjectionDefinition(GuardDefinition, frozen=True, kw_only=True):
    """Signs of prompt injection that stand close together."""

    threshold: Threshold = None
    signs: Annotated[
        tuple[SignDefinition, ...], Meta(description="Signs of your own besides.")
    ] = ()


class LinksDefinition(GuardDefinition, frozen=True, kw_only=True):
    """Images and links that carry data to other hosts."""

    allowed_hosts: Annotated[
        tuple[Text, ...], Meta(description="Hosts that may be named, each with those below it.")
    ] = ()
    all_links: Annotated[
        bool, Meta(description="Whether links to other hosts are found that carry no data.")
    ] = False


class CanaryDefinition(GuardDefinition, frozen=True, kw_only=True):
    """Texts that were put where no answer may take them from."""

    canaries: Annotated[
        tuple[Secret, ...],
        Meta(min_length=1, description="Each has at least 8 letters and digits. Never shown."),
    ]


class SystemLeakDefinition(GuardDefinition, frozen=True, kw_only=True):
    """Parts of the conversation's system texts in an answer."""

    least_words: Annotated[
        int, Meta(ge=4, le=1000, description="How many in a row have to be the same.")
    ] = 12


class WordsDefinition(GuardDefinition, frozen=True, kw_only=True):
    """Words and phrases of a list."""

    words: Annotated[Words, Meta(description="Whole words, whatever the case.")]
    category: Annotated[Text | None, Meta(description="Of its findings; words if left out.")] = None


class TopicsDefinition(GuardDefinition, frozen=True, kw_only=True):
    """Texts about a topic, by how many of its words they hold."""

    topics: Annotated[dict[Text, Words], Meta(description="Topic to its words.")]
    least: Annotated[
        int, Meta(ge=1, le=1000, description="How many different words of one a text needs.")
    ] = 2


class RegexDefinition(GuardDefinition, frozen=True, kw_only=True):
    """What regular expressions match, in linear time."""

    patterns: Annotated[
        dict[Text, Pattern],
        Meta(description="Category to expression, in RE2's syntax; a group value is the finding."),
    ]
    max_length: Annotated[
        int,
        Meta(ge=1, le=10_000, description="The most characters of a match: so much is held back."),
    ] = 128


class LengthDefinition(GuardDefinition, frozen=True, kw_only=True):
    """Texts that are too long."""

    max_characters: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000_000)] | None, Meta(description="Of one text.")
    ] = None
    max_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000_000)] | None, Meta(description="Of one, estimated.")
    ] = None


class LanguageDefinition(GuardDefinition, frozen=True, kw_only=True):
    """Texts in a language that is not allowed."""

    allowed: Annotated[Words, Meta(description="Two letters of each, such as en.")]
    threshold: Annotated[Score | None, Meta(description="How sure it has to be (0.55).")] = None


class JsonDefinition(GuardDefinition, frozen=True, kw_only=True):
    """Answers that are not JSON, or not of a schema."""

    schema: Annotated[Any, Meta(description="A JSON Schema; left out, any JSON will do.")] = None
    objects_only: Annotated[bool, Meta(description="Whether only an object will do.")] = False


class RemoteGuardDefinition(GuardDefinition, frozen=True, kw_only=True):
    """A guard that asks somebody else. Its deadline is the guardrail's ``timeout_seconds``."""

    url: Annotated[Secret, Meta(description="Where it is asked, by POST. Never shown.")]
    private: Annotated[
        bool,
        Meta(description="Whether it may be at an address that is not public, and plain http."),
    ] = False


class ModerationDefinition(RemoteGuardDefinition, frozen=True, kw_only=True):
    """A moderation service, as OpenAI's."""

    api_key: Annotated[Secret | None, Meta(description="Sent as the bearer's token.")] = None
    model: Annotated[
        Text | None, Meta(description="As the service names it; omni-moderation-latest.")
    ] = None
    thresholds: Annotated[
        dict[Text, Score],
        Meta(
            description="Category to the score from which it is found, in place of the service's "
            'own judgement; "*" is for all others.'
        ),
    ] = field(default_factory=dict)


class WebhookGuardDefinition(RemoteGuardDefinition, frozen=True, kw_only=True):
    """A service of yours, asked by a signed POST."""

    secret: Annotated[Secret, Meta(description="Signs; at least 16 characters.")]
    window: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        Meta(description="The most characters of a finding; left out, only whole texts."),
    ] = None


class PresidioDefinition(GuardDefinition, frozen=True, kw_only=True):
    """Names and places, as Presidio finds them; needs the extra guards-entities."""

    language: Annotated[Text, Meta(description="Two letters, one that it has a model for.")] = "en"
    categories: Annotated[
        dict[Text, Text], Meta(description="Presidio's kind to the category of the finding.")
    ] = field(default_factory=lambda: {"PERSON": "pii.name", "LOCATION": "pii.address"})
    threshold: Threshold = None


class GLiNERDefinition(GuardDefinition, frozen=True, kw_only=True):
    """Names and whatever else a GLiNER model finds; needs the extra guards-entities."""

    path: Annotated[Text, Meta(description="Folder of the model's files; nothing is fetched.")]
    categories: Annotated[
        dict[Text, Text], Meta(description="What to look for, in words, to the category.")
    ] = field(default_factory=lambda: {"person": "pii.name", "address": "pii.address"})
    threshold: Threshold = None


class GuardrailDefinition(Definition, frozen=True, kw_only=True):
    """One guard, by the key of its type, and what becomes of what it finds."""

    pii: Annotated[PiiDefinition | UnsetType, Meta(description="Personal data.")] = UNSET
    secrets: Annotated[
        SecretsDefinition | UnsetType, Meta(description="Keys, tokens and passwords.")
    ] = UNSET
    injection: Annotated[
        InjectionDefinition | UnsetType, Meta(description="Attempts at prompt injection.")
    ] = UNSET
    links: Annotated[
        LinksDefinition | UnsetType, Meta(description="Images and links that carry data away.")
    ] = UNSET
    canary: Annotated[CanaryDefinition | UnsetType, Meta(description="Planted texts.")] = UNSET
    system_leak: Annotated[
        SystemLeakDefinition | UnsetType,
        Meta(description="Parts of the system texts in an answer."),
    ] = UNSET
    words: Annotated[WordsDefinition | UnsetType, Meta(description="Words and phrases.")] = UNSET
    topics: Annotated[TopicsDefinition | UnsetType, Meta(description="Texts about a topic.")] = (
        UNSET
    )
    regex: Annotated[RegexDefinition | UnsetType, Meta(description="Regular expressions.")] = UNSET
    length: Annotated[
        LengthDefinition | UnsetType, Meta(description="Texts that are too long.")
    ] = UNSET
    language: Annotated[LanguageDefinition | UnsetType, Meta(description="Languages.")] = UNSET
    json: Annotated[
        JsonDefinition | UnsetType,
        Meta(description="Answers that are not JSON, or not of a schema."),
    ] = UNSET
    moderation: Annotated[
        ModerationDefinition | UnsetType, Meta(description="A moderation service.")
    ] = UNSET
    webhook: Annotated[
        WebhookGuardDefinition | UnsetType, Meta(description="A service of yours.")
    ] = UNSET
    presidio: Annotated[
        PresidioDefinition | UnsetType, Meta(description="Names and places, by Presidio.")
    ] = UNSET
    gliner: Annotated[
        GLiNERDefinition | UnsetType, Meta(description="Names and more, by GLiNER.")
    ] = UNSET
    action: Annotated[
        GuardAction,
        Meta(
            description="block answers 400 or ends the stream, redact puts a placeholder in its "
            "place, flag says so in the log."
        ),
    ] = "block"
    on_error: Annotated[
        Literal["allow", "deny"],
        Meta(description="What becomes of a text that the guard could not judge."),
    ] = "deny"
    timeout_seconds: Annotated[
        Seconds | None, Meta(description="Deadline of one check; null is none.")
    ] = 2.0
    mode: Mode = "enforce"
    min_score: Annotated[Score, Meta(description="Findings below it are left out.")] = 0.0
    roles: Annotated[
        tuple[Literal["system", "user", "assistant", "tool", ""], ...],
        Meta(description="Whose texts of a request are looked at; all when left out."),
    ] = ()
    models: Annotated[
        tuple[Text, ...], Meta(description="Patterns of models, as clients name them; all.")
    ] = ()
    scopes: Annotated[
        tuple[Text, ...],
        Meta(description="Patterns of callers, such as tier:free or team:blue*; all."),
    ] = ()
    retry: Annotated[
        bool, Meta(description="Whether a whole answer that it blocks is asked for once more.")
    ] = False
    repair: Annotated[
        bool, Meta(description="Whether a whole answer that it blocks is repaired first.")
    ] = False


class AuditWebhookDefinition(Definition, frozen=True, kw_only=True):
    """Somebody who is told of findings by HTTP."""

    url: Annotated[Secret, Meta(description="Where each record is posted. Never shown.")]
    secret: Annotated[Secret, Meta(description="Signs them; at least 16 characters.")]
    private: Annotated[
        bool,
        Meta(description="Whether it may be at an address that is not public, and plain http."),
    ] = False


class AuditDefinition(Definition, frozen=True, kw_only=True):
    """Who is told what the guards found: digests of it, never the text."""

    log: Annotated[
        bool, Meta(description="Whether the logger asgi_llm.audit gets a line of JSON.")
    ] = True
    webhook: Annotated[AuditWebhookDefinition | None, Meta(description="Who is told by HTTP.")] = (
        None
    )
    timeout_seconds: Annotated[Seconds, Meta(description="Deadline of one record.")] = 2.0


class GuardrailsDefinition(LayerDefinition, frozen=True, kw_only=True):
    """Guards on what goes in and on what comes out, streams included."""

    input: Annotated[
        tuple[GuardrailDefinition, ...], Meta(description="For requests, in this order.")
    ] = ()
    output: Annotated[
        tuple[GuardrailDefinition, ...], Meta(description="For answers, in this order.")
    ] = ()
    mode: Mode = "enforce"
    parallel: Annotated[
        bool,
        Meta(description="Whether slow guards look at a request while it is being answered."),
    ] = False
    reversible: Annotated[
        bool, Meta(description="Whether what was redacted in a request comes back in its answer.")
    ] = True
    placeholders: Annotated[
        Literal["numbered", "digest"],
        Meta(description="<EMAIL_1> by the order, or named by the value, the same everywhere."),
    ] = "numbered"
    digest_key: Annotated[
        Secret | None,
        Meta(
            description="For digests, at least 16 bytes; each process makes its own when left out."
        ),
    ] = None
    tell_header: Annotated[
        bool, Meta(description="Whether answers say in X-Guardrail what was done.")
    ] = True
    stream_error_event: Annotated[
        bool, Meta(description="Whether a blocked stream ends with an error event besides.")
    ] = False
    audit: Annotated[
        AuditDefinition | None, Meta(description="Who is told of findings; nobody.")
    ] = None
    threads: Annotated[
        int, Meta(ge=1, le=256, description="For slow guards, and for long texts.")
    ] = 4
    max_answer_bytes: Annotated[
        int, Meta(ge=1, le=1024 * Megabytes, description="Cap on an answer that is held whole.")
    ] = 32 * Megabytes
    max_held_characters: Annotated[
        int, Meta(ge=1, le=1024 * Megabytes, description="Cap on what a stream may hold back.")
    ] = 4 * Megabytes
