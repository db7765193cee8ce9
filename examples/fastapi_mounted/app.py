"""A FastAPI app that serves a gateway under ``/llm`` and calls it in process for its own needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

from asgi_llm import client, load_gateway, mount_gateway

gateway = load_gateway(
    {
        "providers": {"echo": {"type": "echo"}},
        "models": {"summary": {"targets": [{"provider": "echo", "model": "echo"}]}},
    }
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """One client for the app's life; no socket is behind it."""
    async with client(gateway) as http:
        yield {"llm": AsyncOpenAI(api_key="none", base_url="http://gateway/v1", http_client=http)}


app = FastAPI(lifespan=lifespan)
mount_gateway(app, "/llm", gateway)


@app.get("/summary")
async def summary(text: str, request: Request) -> StreamingResponse:
    """An endpoint of the app's own that asks a model, and streams what it says."""
    llm: AsyncOpenAI = request.state.llm
    stream = await llm.chat.completions.create(
        model="summary", messages=[{"role": "user", "content": text}], stream=True
    )

    async def words() -> AsyncIterator[str]:
        async for chunk in stream:
            yield chunk.choices[0].delta.content or ""

    return StreamingResponse(words(), media_type="text/plain")
