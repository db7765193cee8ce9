"""One request on its way through the guards, and the calls of the app that answer it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from asgi_llm import _json
from asgi_llm._asgi import BufferedBody, check_length, read_body, send_error
from asgi_llm.errors import InvalidRequestError, LLMError
from asgi_llm.middleware._guard_answer import GuardedAnswer
from asgi_llm.middleware._guard_chat import list_simple_texts, read_simple_request
from asgi_llm.middleware._guard_outcome import publish, refusal, verdict_header
from asgi_llm.middleware._guard_quick import Judged
from asgi_llm.middleware._guard_rules import Panel, Rail
from asgi_llm.middleware._guard_shared import Guarded
from asgi_llm.middleware._guard_texts import Text, path_text, read_texts, with_texts
from asgi_llm.middleware._guard_whole import (
    Found,
    chains_of,
    check_inline,
    check_slowly,
    first_block,
    is_large,
    note,
    rewrite,
)
from asgi_llm.middleware._limit_plan import model_of
from asgi_llm.middleware._model_access import is_upload
from asgi_llm.state import FAILURE, PRINCIPAL
from asgi_llm.types import Document
from asgi_llm.wire._explain import name_kind
from asgi_llm.wire.upload import Upload

__all__ = ["GuardedRequest"]

_ANSWERS_WITHOUT_TEXT: Final = frozenset(("/v1/embeddings", "/v1/moderations"))


class GuardedRequest(Guarded):
    """One request on its way through the guards."""

    __slots__ = ()

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the request, have it answered, and check the answer."""
        guards, state = self.guards, self.state
        try:
            check_length(scope, guards.max_body_bytes)
            data = await read_body(receive, guards.max_body_bytes, guards.body_timeout_seconds)
            if data is None:
                return
            body = BufferedBody(data, receive)
            if is_upload(scope, self.path):
                document, texts = None, await self._read_form(scope, data)
                self.know_texts(texts)
            else:
                self.document = document = self._read(data)
                texts = []
        except LLMError as error:
            state.set(FAILURE, error)
            await send_error(send, state, error)
            return
        panel, of_answers = guards.input.every, guards.output.every
        if panel is None or of_answers is None:
            model, principal = model_of(document), state.get(PRINCIPAL)
            panel = guards.input.choose(model, principal)
            of_answers = guards.output.choose(model, principal)
        if self.path not in _ANSWERS_WITHOUT_TEXT:
            self.panel = of_answers
        judged: Judged | None = None if panel.rails else "clean"
        if panel.look is not None and document is not None:
            simple = read_simple_request(document)
            if simple is not None:
                judged = panel.look.judge_request(simple[0], simple[1])
        if judged == "clean" and not self.panel.retries:
            answer = GuardedAnswer(self, send)
            try:
                await guards.app(scope, body.receive, answer)
            except Exception as error:
                if not await answer.is_over(error):
                    raise
            if answer.held:
                await answer.let_go()
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

    async def _read_form(self, scope: Scope, data: bytes) -> list[Text]:
        upload = await Upload.read_head(
            scope,
            BufferedBody(data, _nothing_more).receive,
            max_bytes=self.guards.max_body_bytes,
        )
        if upload is None:
            return []
        async with upload:
            return read_texts(upload.document(), role="user")

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
            return await self.settings.threads.run(
                lambda: check_inline(texts, panel, "input", self.asked)
            )
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
