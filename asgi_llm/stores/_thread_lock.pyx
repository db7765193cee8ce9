"""A lock between threads that is seldom waited for, as ``_thread_lock.py`` has it.

No other thread runs Python, or C like this, before this one calls what lets go of the
interpreter's lock. So one field says who may go on, as long as nobody has to wait. Who has to
takes the real lock in the name of whoever is in, and waits for it; so that one gives it back.
"""

import threading

cimport cython


@cython.final
cdef class ThreadLock:
    def __cinit__(self):
        lock = threading.Lock()
        self._acquire, self._release = lock.acquire, lock.release

    cpdef acquire(self):
        if self._taken or self._waiting:
            self._wait()
        else:
            self._taken = True

    cpdef release(self):
        if not self._taken:
            raise RuntimeError("release unlocked lock")
        self._taken = False
        if self._bolted:
            self._bolted = False
            self._release()

    cdef _wait(self):
        if self._taken and not self._bolted and self._acquire(False):
            if self._taken and not self._bolted:
                self._bolted = True
            else:
                self._release()
        self._waiting += 1
        try:
            self._acquire()
        finally:
            self._waiting -= 1
        self._taken = self._bolted = True

    def __enter__(self):
        self.acquire()

    def __exit__(self, *error):
        self.release()
