"""``python -m asgi_llm`` is ``asgi-llm``."""

from __future__ import annotations

from asgi_llm.gateway.cli import main

if __name__ == "__main__":
    main()
