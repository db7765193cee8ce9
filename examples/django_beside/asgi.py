"""Django, and a gateway beside it under ``/llm``."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

from asgi_llm import beside, load_gateway

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.django_beside.settings")

gateway = load_gateway({"providers": {"echo": {"type": "echo"}}})
application = beside(get_asgi_application(), "/llm", gateway)
