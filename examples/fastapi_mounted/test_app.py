"""The app, as its users meet it."""

from __future__ import annotations

import asyncio

import httpx2
from openai import AsyncOpenAI

from asgi_llm.testing.serving import serve
from examples.fastapi_mounted.app import app


async def test_gateway_and_app_answer() -> None:
    """Clients reach the gateway under its prefix, and the app's own endpoint uses it in process."""
    async with (
        asyncio.timeout(30),
        serve(app) as url,
        httpx2.AsyncClient(trust_env=False, base_url=url) as http,
        AsyncOpenAI(api_key="none", base_url=f"{url}/llm/v1") as llm,
    ):
        answer = await llm.chat.completions.create(
            model="summary", messages=[{"role": "user", "content": "Hello"}]
        )
        assert "Hello" == answer.choices[0].message.content
        text = await http.get("/summary", params={"text": "one two three"})
        assert "one two three" == text.text
        document = (await http.get("/openapi.json")).json()
        assert {"/summary", "/llm/v1/chat/completions"} <= set(document["paths"])
