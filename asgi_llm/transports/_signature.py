"""The signature of what is posted to a webhook."""

from __future__ import annotations

import hashlib
import hmac

__all__ = ["signature_header"]


def signature_header(secret: bytes, body: bytes, unix_seconds: float) -> tuple[bytes, bytes]:
    """``X-Signature: t=<Unix time>,v1=<hex>``: the HMAC-SHA256 of the time, a dot and the body.

    Whoever gets it refuses times that are some minutes old, so that it cannot be sent again.
    """
    now = b"%d" % int(unix_seconds)
    signature = hmac.new(secret, now + b"." + body, hashlib.sha256).hexdigest()
    return b"x-signature", b"t=" + now + b",v1=" + signature.encode()
