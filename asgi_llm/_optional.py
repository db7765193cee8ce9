"""The one message for a dependency that is not installed."""

from __future__ import annotations

import importlib
from typing import Any

from asgi_llm.errors import ConfigurationError


def require(module: str, *, extra: str) -> Any:
    """Import ``module``, or say which command installs it.

    Raises:
        ConfigurationError: The module is missing; the message holds the exact install command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise ConfigurationError(
            f"{module} is not installed; run: pip install 'asgi-llm[{extra}]'", param=module
        ) from error
