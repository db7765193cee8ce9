"""Ready answers to "who did the host find to be calling?", for ``AuthMiddleware(principal=...)``.

Both read ``scope["user"]``, which the host's own authentication sets outside of the layer: for
Starlette and FastAPI ``AuthenticationMiddleware``, for Django ``AuthMiddlewareStack`` of channels.
Neither gives anybody a role: what a host calls staff or superuser is not for us to translate.
"""

from __future__ import annotations

from typing import Any

from starlette.types import Scope

from asgi_llm.types import Principal

__all__ = ["django_user", "starlette_user"]


def starlette_user(scope: Scope) -> Principal | None:
    """The user that Starlette's AuthenticationMiddleware found, with the scopes of its credentials.

    The user's ``identity`` is the id, or ``display_name`` where there is none. None: no user, or
    one who is not authenticated.
    """
    user: Any = scope.get("user")
    if user is None or user.is_authenticated is not True:
        return None
    try:
        user_id = str(user.identity)
    except NotImplementedError:
        # What Starlette's own SimpleUser says of its identity.
        user_id = str(user.display_name)
    if not user_id:
        return None
    scopes = getattr(scope.get("auth"), "scopes", ())
    return Principal(user_id=user_id, scopes=frozenset(scopes))


def django_user(scope: Scope) -> Principal | None:
    """The Django user of the scope, by primary key.

    None: no user, an anonymous one, or one whose account is not active.
    """
    user: Any = scope.get("user")
    if user is None or user.is_authenticated is not True or user.is_active is not True:
        return None
    if user.pk is None:
        return None
    return Principal(user_id=str(user.pk), key_name=str(user.get_username()) or None)
