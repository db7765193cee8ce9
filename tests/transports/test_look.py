"""What a socket says of itself, before its loop has heard of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from asgi_llm.transports._look import SocketLook


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours and the peer's."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    with ours, peer:
        yield ours, peer


def test_something_has_come_until_it_is_read(pair: tuple[socket.socket, socket.socket]) -> None:
    """To look takes nothing away."""
    ours, peer = pair
    look = SocketLook(ours.fileno())
    assert not look.has_come()
    peer.sendall(b"x")
    assert look.has_come()
    assert look.has_come()
    assert b"x" == ours.recv(10)
    assert not look.has_come()


@pytest.mark.parametrize("half", [True, False])
def test_the_end_is_something(pair: tuple[socket.socket, socket.socket], half: bool) -> None:
    """Of one direction, or of both."""
    ours, peer = pair
    look = SocketLook(ours.fileno())
    if half:
        peer.shutdown(socket.SHUT_WR)
    else:
        peer.close()
    assert look.has_come()


def test_a_full_socket_takes_no_more(pair: tuple[socket.socket, socket.socket]) -> None:
    """Until the peer has read."""
    ours, peer = pair
    look = SocketLook(ours.fileno())
    assert look.takes_more()
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += ours.send(b"x" * 65536)
    assert not look.takes_more()
    while sent:
        sent -= len(peer.recv(65536))
    assert look.takes_more()


def test_what_has_no_socket_is_of_no_use() -> None:
    """It is taken for one that has ended."""
    look = SocketLook(-1)
    assert look.has_come()
    assert not look.takes_more()
