"""One request on its way through the guards, and the calls of the app that answer it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Final, cast

from starlette.types import Message, Receive, Scope, Send

from asgi_llm import _json
from asgi_llm._asgi import route_path, send_error
from asgi_llm._body import ArrivingBody, BufferedBody, check_and_take
from asgi_llm.errors import InvalidRequestError, LLMError
from asgi_llm.middleware._guard_answer import GuardedAnswer, to_answer
from asgi_llm.middleware._guard_chat import list_simple_texts, read_simple_request
from asgi_llm.middleware._guard_checks import Asked, Notes
from asgi_llm.middleware._guard_outcome import publish, refusal, verdict_header
from asgi_llm.middleware._guard_panel import Panel
from asgi_llm.middleware._guard_quick import Judged
from asgi_llm.middleware._guard_rail import Rail
from asgi_llm.middleware._guard_shared import Guarded, Guards
from asgi_llm.middleware._guard_texts import Text, path_text, read_texts, with_texts
from asgi_llm.middleware._guard_whole import (
    Found,
    chains_of,
    check_in_thread,
    check_inline,
    check_slowly,
    first_block,
    is_large,
    note,
    rewrite,
)
from asgi_llm.middleware._limit_plan import model_of
from asgi_llm.middleware._model_access import UPLOAD_PATHS, is_upload
from asgi_llm.state import FAILURE, PRINCIPAL, enter
from asgi_llm.types import Document
from asgi_llm.wire._explain import name_kind
from asgi_llm.wire.upload import Upload

__all__ = ["GuardedRequest", "begin"]

_ANSWERS_WITHOUT_TEXT: Final = frozenset(("/v1/embeddings", "/v1/moderations"))


def begin(guards: Guards, scope: Scope, receive: Receive, send: Send) -> GuardedRequest | None:
    """A request on its way, as far as it gets without any waiting; None: it is not guarded.

    Raises:
        Exception: What ``receive`` raises.
    """
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    path = route_path(scope)
    if path not in guards.paths:
        return None
    scope, state = enter(scope)
    # For an object of its own an __init__ is a long way around.
    request = GuardedRequest.__new__(GuardedRequest)
    request._set_up(guards, state, path)
    request._scope, request._receive, request._send = scope, receive, send
    request._arriving = request._body = request._data = request._failure = None
    request._input = request._judged = request._sending = None
    request._open()
    return request


class GuardedRequest(Guarded):
    """One request on its way through the guards, from ``begin``.

    ``go`` is awaited, ``end`` is called in any case. In between, ``is_over`` says whether what was
    raised is to be passed on, and ``rest`` what is left to be done where nothing was.
    """

    __slots__ = (
        "_arriving", "_body", "_data", "_failure", "_input", "_judged", "_receive", "_scope",
        "_send", "_sending",
    )  # fmt: skip

    _arriving: ArrivingBody | None
    _body: BufferedBody | None
    _data: bytes | None
    _failure: LLMError | None
    _input: Panel | None
    _judged: Judged | None
    _receive: Receive
    _scope: Scope
    _send: Send
    _sending: GuardedAnswer | None

    def _open(self) -> None:
        """Read the body and judge it, where it is there already, as most are."""
        most = self.guards.max_body_bytes
        try:
            taken = check_and_take(self._scope, self._receive, most)
            if type(taken) is ArrivingBody:
                self._arriving = taken
                return
            data = cast("bytes | None", taken)
            self._data = data
            if data is None or (self.path in UPLOAD_PATHS and is_upload(self._scope, self.path)):
                return
            self._judge_body(data)
        except LLMError as error:
            self._failure = error
            return
        if self._judged == "clean" and not self.panel.retries:
            self._body = BufferedBody(data, self._receive)
            self._sending = to_answer(self, self._send)

    def go(self) -> Awaitable[None]:
        """Have the request answered, once it may be."""
        answer, body = self._sending, self._body
        if answer is None or body is None:
            return self._run()
        return self.guards.app(self._scope, body.receive, answer)

    def rest(self) -> Awaitable[None] | None:
        """What is left to be done where nothing was raised."""
        answer = self._sending
        return answer.let_go() if answer is not None and answer.held else None

    async def is_over(self, error: Exception) -> bool:
        """Whether what was raised is no more than that the app was refused."""
        answer = self._sending
        return answer is not None and await answer.is_over(error)

    def end(self) -> Notes | None:
        """Nothing more comes; what was noted."""
        # They know each other.
        self._sending = None
        return self.notes_if_any

    def _judge_body(self, data: bytes) -> None:
        """Read a body that is no form, and look at it once.

        Raises:
            LLMError: It cannot be read.
        """
        self.document = document = self._read(data)
        panel = self._choose(document)
        judged: Judged | None = None if panel.rails else "clean"
        look = panel.look
        if look is not None and document is not None:
            simple = read_simple_request(document)
            if simple is not None:
                judged = look.judge_request(simple[0], simple[1])
        self._judged = judged

    def _choose(self, document: Document | None) -> Panel:
        """The guards of the request, which are noted as those of its answer are."""
        guards = self.guards
        panel, of_answers = guards.every_input, guards.every_output
        if panel is None or of_answers is None:
            model, principal = model_of(document), self.state.get(PRINCIPAL)
            panel = guards.input.choose(model, principal)
            of_answers = guards.output.choose(model, principal)
        if self.path not in _ANSWERS_WITHOUT_TEXT:
            self.panel = of_answers
        self._input = panel
        return panel

    async def _run(self) -> None:
        """The way of a request that comes late, or of which more is to be said."""
        guards, scope, receive, send = self.guards, self._scope, self._receive, self._send
        data, texts = self._data, list[Text]()
        try:
            if self._failure is not None:
                raise self._failure
            if self._arriving is not None:
                data = await self._arriving.whole(guards.body_timeout_seconds)
            if data is None:
                return
            if is_upload(scope, self.path):
                form, texts = await self._read_form(scope, data)
                self._asked = Asked(model_of(form), texts)
                self._judged = None if self._choose(form).rails else "clean"
            elif self._input is None:
                self._judge_body(data)
        except LLMError as error:
            self.state.set(FAILURE, error)
            await send_error(send, self.state, error)
            return
        body = BufferedBody(data, receive)
        document, panel, judged = self.document, self._input, self._judged
        if panel is None or (judged == "clean" and not self.panel.retries):
            await GuardedAnswer(self, send).run(guards.app, scope, body.receive)
            return
        if document is not None:
            texts = list_simple_texts(document) if judged == "plain" else read_texts(document)
            self.know_texts(texts)
        await self._check(document, texts, judged, panel, scope, receive, body, send)

    async def _check(
        self,
        document: Document | None,
        texts: Sequence[Text],
        judged: Judged | None,
        panel: Panel,
        scope: Scope,
        receive: Receive,
        body: BufferedBody,
        send: Send,
    ) -> None:
        found: list[Found] = []
        if judged is None and panel.look is not None:
            judged = panel.look.judge_request(
                [text.text for text in texts], [text.role for text in texts], chains_of(texts)
            )
        if judged != "clean":
            found = await self._look(texts, panel, plain=judged == "plain")
        first, beside = self._in_order(panel.slow)
        if first and first_block(found) is None:
            found += await check_slowly(texts, first, "input", self.asked, self.settings.threads)
        block = self._judge(found, texts, may_change=document is not None)
        if block is not None:
            await self._refuse(block, texts, send)
            return
        if found and document is not None:
            changes = rewrite(found, texts, self.vault, keep=True, restore=False)
            if changes:
                scope = body.replace(scope, _json.encode(with_texts(document, changes)))
        if beside:
            await self._run_beside(texts, beside, scope, receive, body, send)
        else:
            await self._go_on(scope, receive, body, send)

    async def _go_on(self, scope: Scope, receive: Receive, body: BufferedBody, send: Send) -> None:
        if self.panel.retries:
            await self._answer(scope, receive, body, send, None)
        else:
            await GuardedAnswer(self, send).run(self.guards.app, scope, body.receive)

    async def _read_form(self, scope: Scope, data: bytes) -> tuple[Document, list[Text]]:
        """The fields of a form, and all its texts: the names and types of its parts are some."""
        upload = await Upload.read_head(
            scope,
            BufferedBody(data, _nothing_more).receive,
            max_bytes=self.guards.max_body_bytes,
        )
        if upload is None:
            return {}, []
        async with upload:
            await upload.read_rest()
            form = upload.document()
            texts = read_texts(form, role="user")
            texts.append(Text(("file", "filename"), "user", upload.file_name))
            # The app inside gets the form as it came.
            texts += [Text((name, "headers"), "user", head) for name, head in upload.heads]
            return form, texts

    def _read(self, data: bytes) -> Document | None:
        """The document of a body; None where it has none and nothing is enforced."""
        try:
            document: Any = self.state.document(data)
            if type(document) is not dict:
                raise InvalidRequestError(
                    f"The body has to be a JSON object, got {name_kind(document)}.",
                    code="invalid_type",
                )
        except InvalidRequestError:
            if self.guards.enforce:
                raise
            return None
        return document

    async def _look(self, texts: Sequence[Text], panel: Panel, *, plain: bool) -> list[Found]:
        if panel.scanner is None and not panel.inline:
            return []
        if is_large(texts):
            threads = self.settings.threads
            return await check_in_thread(texts, panel, "input", self.asked, threads)
        return check_inline(texts, panel, "input", self.asked, plain=plain)

    def _in_order(self, slow: Sequence[Rail]) -> tuple[Sequence[Rail], Sequence[Rail]]:
        """Those that are asked before the app is called, and those that are asked meanwhile."""
        if not self.guards.parallel:
            return slow, ()
        redacting = [rail for rail in slow if rail.acts and not rail.blocks]
        return redacting, [rail for rail in slow if rail not in redacting]

    def _judge(
        self, found: Sequence[Found], texts: Sequence[Text], *, may_change: bool
    ) -> Found | None:
        """Note what was found; what the request is refused for, if it is."""
        if not found:
            return None
        note(found, texts, self.notes, "input")
        publish(self.state, self.notes)
        block = first_block(found)
        if block is None and not may_change:
            # A form goes on as it came, or not at all.
            block = next((one for one in found if one.hit.redacts), None)
        return block

    async def _refuse(self, block: Found, texts: Sequence[Text], send: Send) -> None:
        self.notes.blocked = True
        path = path_text(texts[block.parts[0][0]].path) if block.parts else ""
        error = refusal(block.hit, path, is_request=True)
        if self.settings.tell_header:
            error.headers = ((b"x-guardrail", verdict_header(self.notes)),)
        self.state.set(FAILURE, error)
        await send_error(send, self.state, error)

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        body: BufferedBody,
        send: Send,
        gate: asyncio.Task[Found | None] | None,
    ) -> None:
        """Have the app answer; once more where a guard that asks for it blocks the answer."""
        guards = self.guards
        may_retry = self.panel.retries
        answer = GuardedAnswer(self, send, gate=gate, may_retry=may_retry)
        await answer.run(guards.app, scope, body.receive)
        if answer.wants_retry:
            again = BufferedBody(body.data, receive)
            await GuardedAnswer(self, send).run(guards.app, scope, again.receive)

    async def _run_beside(
        self,
        texts: Sequence[Text],
        beside: Sequence[Rail],
        scope: Scope,
        receive: Receive,
        body: BufferedBody,
        send: Send,
    ) -> None:
        """Have the app answer while guards still look at the request."""
        loop = asyncio.get_running_loop()
        checking = loop.create_task(self._check_beside(texts, beside))
        running = loop.create_task(self._answer(scope, receive, body, send, checking))
        try:
            await asyncio.wait((checking, running), return_when=asyncio.FIRST_COMPLETED)
            block = await checking
            if block is None:
                await running
                return
            # Nothing of the answer has left, and nothing will.
            await _ended(running)
            await self._refuse(block, texts, send)
        finally:
            await _ended(checking, running)

    async def _check_beside(self, texts: Sequence[Text], beside: Sequence[Rail]) -> Found | None:
        threads = self.settings.threads
        found = await check_slowly(texts, beside, "input", self.asked, threads)
        return self._judge(found, texts, may_change=True)


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel ``tasks`` and wait for their end; what they raise is nobody's any more."""
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)
    for task in tasks:
        if not task.cancelled():
            task.exception()


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}
