"""What the tests of Vertex AI share: the key of a service account, made for the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@pytest.fixture(scope="session")
def private_key() -> rsa.RSAPrivateKey:
    """A key that nobody else has."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def service_account(private_key: rsa.RSAPrivateKey) -> Callable[..., dict[str, Any]]:
    """What Google's key file would hold, for a token endpoint at ``token_uri``."""
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def service_account(token_uri: str, **more: Any) -> dict[str, Any]:
        return {
            "type": "service_account",
            "project_id": "own-project",
            "private_key_id": "key-1",
            "private_key": pem,
            "client_email": "gateway@own-project.iam.gserviceaccount.com",
            "token_uri": token_uri,
            **more,
        }

    return service_account
