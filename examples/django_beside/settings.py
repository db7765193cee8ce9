"""The least that Django asks for."""

from __future__ import annotations

import os

SECRET_KEY = os.environ.get("SECRET_KEY") or os.urandom(32).hex()
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "examples.django_beside.urls"
USE_TZ = True
