"""The process in which a target is measured: set up as one that serves and does nothing else.

What is measured comes in the environment variable ``PERFORMANCE_TARGET``, as ``module:function`` in
this folder; with ``PERFORMANCE_COLLECTOR=python`` the garbage collector is left as Python has it.
"""

from __future__ import annotations

import os
from importlib import import_module

from starlette.types import ASGIApp

from asgi_llm.integrations.collector import ease_collector


def app() -> ASGIApp:
    """Make the target; a factory for the server."""
    module, _, function = os.environ["PERFORMANCE_TARGET"].partition(":")
    made: ASGIApp = getattr(import_module(f"tests.performance.{module}"), function)()
    if os.environ.get("PERFORMANCE_COLLECTOR") != "python":
        ease_collector()
    return made
