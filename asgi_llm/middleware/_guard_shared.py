"""What all requests of a layer share, and what the answers to one request do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp

from asgi_llm.middleware._guard_checks import Asked, Notes
from asgi_llm.middleware._guard_panel import Panel
from asgi_llm.middleware._guard_rules import Panels
from asgi_llm.middleware._guard_texts import Text
from asgi_llm.middleware._guard_threads import Threads
from asgi_llm.middleware._guard_vault import Placeholders, Vault
from asgi_llm.middleware._limit_plan import model_of
from asgi_llm.state import State
from asgi_llm.types import Document

__all__ = ["Guarded", "Guards", "Settings"]


class Settings:
    """How the answers of a layer are guarded, and what stands in for what is redacted."""

    __slots__ = (
        "digest_key", "has_audit", "max_answer_bytes", "max_held_characters", "placeholders",
        "reversible", "stream_error_event", "tell_header", "threads",
    )  # fmt: skip

    def __init__(
        self,
        *,
        threads: Threads,
        tell_header: bool,
        stream_error_event: bool,
        max_answer_bytes: int,
        max_held_characters: int,
        digest_key: bytes,
        placeholders: Placeholders,
        reversible: bool,
        has_audit: bool,
    ) -> None:
        self.threads = threads
        self.tell_header = tell_header
        self.stream_error_event = stream_error_event
        self.max_answer_bytes = max_answer_bytes
        self.max_held_characters = max_held_characters
        self.digest_key = digest_key
        self.placeholders: Placeholders = placeholders
        self.reversible = reversible
        self.has_audit = has_audit


class Guards:
    """What all requests of a layer share.

    Attributes:
        every_input: The guards of all requests; None: they differ, or those of the answers do.
        every_output: Those of all answers.
    """

    __slots__ = (
        "app", "body_timeout_seconds", "enforce", "every_input", "every_output", "input",
        "max_body_bytes", "output", "parallel", "paths", "settings",
    )  # fmt: skip

    def __init__(
        self,
        *,
        app: ASGIApp,
        input: Panels,
        output: Panels,
        settings: Settings,
        parallel: bool,
        enforce: bool,
        paths: frozenset[str],
        max_body_bytes: int,
        body_timeout_seconds: float,
    ) -> None:
        self.app = app
        self.input = input
        self.output = output
        self.every_input = None if output.every is None else input.every
        self.every_output = output.every
        self.paths = paths
        self.settings = settings
        self.parallel = parallel
        self.enforce = enforce
        self.max_body_bytes = max_body_bytes
        self.body_timeout_seconds = body_timeout_seconds


NOBODY: Final = Panel((), (), None)


class Guarded:
    """What the answers to one request share. Most of it is made when it is first asked for.

    Attributes:
        guards: Of the layer.
        settings: Of the layer.
        state: Of the request.
        path: Its route.
        panel: The guards of the answers.
        document: The request, where it is one.
        notes_if_any: What was noted so far; None: nothing was looked at closely.
        vault_if_any: The placeholders; None: nothing was redacted.
    """

    __slots__ = (
        "_asked",
        "document",
        "guards",
        "notes_if_any",
        "panel",
        "path",
        "settings",
        "state",
        "vault_if_any",
    )

    def _set_up(self, guards: Guards, state: State, path: str) -> None:
        self.guards = guards
        self.settings = guards.settings
        self.state = state
        self.path = path
        self.panel: Panel = NOBODY
        self.document: Document | None = None
        self.notes_if_any: Notes | None = None
        self.vault_if_any: Vault | None = None
        self._asked: Asked | None = None

    @property
    def asked(self) -> Asked:
        """What every check is told."""
        if self._asked is None:
            self._asked = Asked(model_of(self.document), None, self.document)
        return self._asked

    def know_texts(self, texts: Sequence[Text]) -> None:
        """Spare the checks to read the request's texts once more."""
        self._asked = Asked(model_of(self.document), texts, self.document)

    @property
    def vault(self) -> Vault:
        """The placeholders."""
        vault = self.vault_if_any
        if vault is None:
            settings = self.settings
            vault = Vault(settings.digest_key, settings.placeholders, keeps=settings.reversible)
            self.vault_if_any = vault
        return vault

    @property
    def notes(self) -> Notes:
        """What is found in the request, and in its answer."""
        notes = self.notes_if_any
        if notes is None:
            notes = Notes(self.vault.digest if self.settings.has_audit else None)
            self.notes_if_any = notes
        return notes

    @property
    def restores(self) -> bool:
        """Whether there is anything to restore in an answer."""
        return self.vault_if_any is not None and self.vault_if_any.restores
