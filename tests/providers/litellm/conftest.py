"""litellm asks the network for a list of prices when it is imported, unless it is told not to."""

from __future__ import annotations

import os

from asgi_llm.providers._litellm_transport import ENVIRONMENT

for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
