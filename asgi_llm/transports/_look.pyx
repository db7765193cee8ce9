"""A look at a socket that the loop owns, as ``_look.py`` has it."""

cimport cython

cdef extern from "poll.h":
    cdef struct pollfd:
        int fd
        short events
        short revents

    int POLLIN
    int POLLOUT
    int poll(pollfd* sockets, unsigned long count, int timeout_ms)


@cython.final
cdef class SocketLook:
    def __cinit__(self, int fileno):
        self._fileno = fileno

    cpdef bint has_come(self) noexcept:
        return self._fileno < 0 or _says(self._fileno, POLLIN)

    cpdef bint takes_more(self) noexcept:
        return self._fileno >= 0 and _says(self._fileno, POLLOUT)


cdef bint _says(int fileno, int what) noexcept:
    cdef pollfd socket
    socket.fd = fileno
    socket.events = what
    socket.revents = 0
    # Below zero where it cannot be told, which is news too.
    return poll(&socket, 1, 0) != 0
