cpdef Py_ssize_t measure_texts(object messages)
