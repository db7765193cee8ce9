"""The project, as its users meet it, in a process of its own: Django is set up once in each."""

from __future__ import annotations

import asyncio

import httpx2

from asgi_llm.testing.serving import serve


async def test_django_and_gateway_answer() -> None:
    """The prefix is the gateway's, everything else is Django's."""
    async with (
        asyncio.timeout(30),
        serve("examples.django_beside.asgi:application", "granian") as url,
        httpx2.AsyncClient(trust_env=False, base_url=url) as http,
    ):
        assert "Django" == (await http.get("/")).text
        assert 404 == (await http.get("/llmx")).status_code
        body = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hello"}]}
        answer = (await http.post("/llm/v1/chat/completions", json=body)).json()
        assert "Hello" == answer["choices"][0]["message"]["content"]
