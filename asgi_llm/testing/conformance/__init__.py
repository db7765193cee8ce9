"""What every layer promises, as checks that anyone can run on a layer of their own.

With pytest and its asyncio plugin::

    from asgi_llm.testing.conformance import checks

    @pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
    async def test_conformance(check):
        await check(lambda app: MyLayer(app, limit=10))

Each check builds the layer anew, around an app of its own, and raises AssertionError with the
promise that was broken. A layer that asks for something of the request, such as a key, gets it in
an ``Example``. A layer that breaks a promise on purpose (it rewrites the body, say) leaves that
check out, and says so in its documentation.
"""

from __future__ import annotations

from asgi_llm.testing.conformance import _failures, _requests, _responses, _scopes
from asgi_llm.testing.conformance._scopes import MOUNTS, SPEC_VERSIONS
from asgi_llm.testing.conformance._subject import Check, Example, Layer

__all__ = ["MOUNTS", "SPEC_VERSIONS", "Check", "Example", "Layer", "checks"]

checks: tuple[Check, ...] = (
    *_scopes.CHECKS,
    *_requests.CHECKS,
    *_responses.CHECKS,
    *_failures.CHECKS,
)
"""All checks. Each has a name and a docstring, and needs a running event loop."""
