"""The layer in a stack, around the terminal app."""

from __future__ import annotations

from starlette.middleware import Middleware

from asgi_llm import compose
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.echo import Echo
from examples.own_layer.layer import WordLimitMiddleware

gateway = compose([Middleware(WordLimitMiddleware, max_words=100)], app=ProviderApp([Echo()]))
