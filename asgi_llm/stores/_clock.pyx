"""Clocks as they are read on the way of a request, as ``_clock.py`` has it."""

import time

from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec

cdef object _wall = time.time
cdef object _monotonic = time.monotonic


cpdef double read_clock(object clock) except? -1:
    cdef timespec now
    cdef int which
    if clock is _wall:
        which = CLOCK_REALTIME
    elif clock is _monotonic:
        which = CLOCK_MONOTONIC
    else:
        return clock()
    if clock_gettime(which, &now) != 0:
        return clock()
    return <double>(<long long>now.tv_sec * 1_000_000_000 + now.tv_nsec) / 1e9
