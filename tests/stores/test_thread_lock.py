"""The lock that is seldom waited for: one thread at a time, whoever has to wait."""

from __future__ import annotations

import os
import threading

import pytest

from asgi_llm.stores._thread_lock import ThreadLock

DEADLINE_SECONDS = 30


def test_one_thread_at_a_time() -> None:
    """Also where each lets the others run while it is in."""
    lock, counted, inside = ThreadLock(), [0], [0]
    most = []

    def count() -> None:
        for _ in range(500):
            lock.acquire()
            try:
                inside[0] += 1
                before = counted[0]
                # A call into the kernel, during which others may run.
                os.stat("/")
                counted[0] = before + 1
                most.append(inside[0])
                inside[0] -= 1
            finally:
                lock.release()

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_SECONDS)
    assert (8 * 500, {1}) == (counted[0], set(most))


def test_who_waits_comes_in_when_it_is_given_back() -> None:
    """And not before; then it is free again for all."""
    lock = ThreadLock()
    for _ in range(3):
        asks, is_in = threading.Event(), threading.Event()

        def wait(asks: threading.Event = asks, is_in: threading.Event = is_in) -> None:
            asks.set()
            with lock:
                is_in.set()

        with lock:
            threads = [threading.Thread(target=wait) for _ in range(3)]
            for thread in threads:
                thread.start()
            assert asks.wait(DEADLINE_SECONDS)
            assert not is_in.wait(0.01)
        for thread in threads:
            thread.join(DEADLINE_SECONDS)
        assert is_in.is_set()


def test_it_is_given_back_by_an_error() -> None:
    """As any lock is that was entered."""
    lock = ThreadLock()
    with pytest.raises(KeyError), lock:
        raise KeyError
    with lock:
        pass


def test_what_nobody_took_is_not_given_back() -> None:
    """It would let two in."""
    with pytest.raises(RuntimeError):
        ThreadLock().release()
