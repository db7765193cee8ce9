"""The TLS context of a client."""

from __future__ import annotations

import ssl
from pathlib import Path

from asgi_llm.errors import ConfigurationError


def context_of(ca_file: str | Path | None) -> ssl.SSLContext:
    """A context that verifies certificates and names, and asks for HTTP/1.1.

    Args:
        ca_file: A PEM file of authorities to trust in place of the system's.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigurationError(f"ca_file cannot be read: {error}", param="ca_file") from error
    context.set_alpn_protocols(["http/1.1"])
    return context
