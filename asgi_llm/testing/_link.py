"""One accepted connection as a byte pipe that knows exactly what left.

Not an asyncio transport: those forget on a broken connection how much of their buffer was written,
keep TLS bytes in two buffers, and cannot choose between a FIN and an RST.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable

_RECEIVE_BYTES = 65536
_TLS_RECORD_BYTES = 16384
# SO_LINGER on, with zero seconds: close() throws the connection away with an RST.
_RESET = struct.pack("ii", 1, 0)


class Link:
    """A non-blocking socket on the running loop, with TLS on request.

    It never stops reading, so that a peer that leaves is noticed whatever else goes on.

    Args:
        sock: An accepted socket.
        context: A server's TLS context, or None.
        on_data: Called with what the peer sent, decrypted.
        on_end: Called once when the peer has closed or reset the connection.
        on_change: Called when ``sent_bytes`` or ``blocked`` may have changed.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext | None,
        *,
        on_data: Callable[[bytes], None],
        on_end: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self.sent_bytes = 0
        """Bytes that the operating system took; with TLS, those of whole records before sealing."""
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._on_data = on_data
        self._on_end = on_end
        self._on_change = on_change
        self._backlog = bytearray()
        self._drained: asyncio.Future[None] | None = None
        self._ended = False
        self._tls: ssl.SSLObject | None = None
        self._shaken = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        if context is not None:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.add_reader(sock, self._readable)

    @property
    def blocked(self) -> bool:
        """Whether bytes wait because the peer does not read."""
        return bool(self._backlog)

    async def send(self, data: bytes) -> None:
        """Hand ``data`` to the operating system, in one write where it takes that much.

        Raises:
            ConnectionError: The connection is gone.
        """
        if self._tls is None:
            self._push(data)
            await self._drain()
            return
        for start in range(0, len(data), _TLS_RECORD_BYTES):
            record = data[start : start + _TLS_RECORD_BYTES]
            self._tls.write(record)
            self._push(self._outgoing.read())
            await self._drain()
            self.sent_bytes += len(record)
            self._on_change()

    def close(self, *, notify: bool = True) -> None:
        """End the connection with a FIN, over TLS with ``close_notify`` before it. Idempotent."""
        if self.closed:
            return
        if notify and self._tls is not None and self._shaken and not self._ended:
            # The peer's own notification is not waited for.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._push(self._outgoing.read())
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._wake()

    def reset(self) -> None:
        """Break the connection off with an RST. Idempotent."""
        if not self.closed:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.close(notify=False)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._end()
        elif self._tls is None:
            self._on_data(data)
        else:
            self._decrypt(self._tls, data)

    def _decrypt(self, tls: ssl.SSLObject, data: bytes) -> None:
        self._incoming.write(data)
        over = False
        try:
            if not self._shaken:
                tls.do_handshake()
                self._shaken = True
            while not self.closed:
                plain = tls.read(_RECEIVE_BYTES)
                if not plain:
                    over = True
                    break
                self._on_data(plain)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            # The peer's close_notify, or its refusal of our certificate: either way it leaves.
            over = True
        self._push(self._outgoing.read())
        if over:
            self._end()

    def _push(self, data: bytes) -> None:
        if self._ended or self.closed or not data:
            return
        waiting = bool(self._backlog)
        self._backlog += data
        if not waiting:
            self._flush()

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self._backlog)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._end()
            return
        del self._backlog[:sent]
        if self._tls is None:
            self.sent_bytes += sent
        if self._backlog:
            self._loop.add_writer(self._sock, self._flush)
        else:
            self._loop.remove_writer(self._sock)
            self._wake()
        self._on_change()

    async def _drain(self) -> None:
        while self._backlog and not self._ended and not self.closed:
            self._drained = self._loop.create_future()
            await self._drained
        if self._ended or self.closed:
            raise ConnectionResetError("the client has left")

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _end(self) -> None:
        if self._ended or self.closed:
            return
        self._ended = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._wake()
        self._on_end()
