cdef class WaitingOutcomes:
    cdef object _max_rows
    cdef object _outcomes
    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t rows
    cdef readonly object lost_rows
