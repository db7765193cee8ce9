cimport cython


@cython.locals(size=Py_ssize_t, text_tokens=Py_ssize_t)
cpdef long long estimate_messages(messages)
