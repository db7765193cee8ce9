cpdef bytes ascii_of(str text, Py_ssize_t most)
cpdef bytes join_two(str first, str last, Py_ssize_t near, Py_ssize_t most)
cpdef bint is_ascii(bytes data) except -1
