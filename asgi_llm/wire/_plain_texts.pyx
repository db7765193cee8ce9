# The source for C of the .py file beside it, where all is explained. Nobody imports it as Python.
from cpython.dict cimport PyDict_GetItemWithError, PyDict_Size
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject

cdef extern from "Python.h":
    bint PyUnicode_CheckExact(PyObject *value)
    bint PyUnicode_IS_ASCII(PyObject *text)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *text)
    bint PyDict_CheckExact(PyObject *value)

cdef str _CONTENT = "content"


cpdef Py_ssize_t measure_texts(object messages):
    cdef Py_ssize_t at, size = 0
    cdef PyObject *message
    cdef PyObject *text
    if type(messages) is not list:
        return -1
    for at in range(PyList_GET_SIZE(<list>messages)):
        message = PyList_GET_ITEM(<list>messages, at)
        if not PyDict_CheckExact(message) or PyDict_Size(<dict>message) > 2:
            return -1
        text = PyDict_GetItemWithError(<dict>message, _CONTENT)
        if text == NULL or not PyUnicode_CheckExact(text):
            return -1
        if not PyUnicode_IS_ASCII(text):
            return -1
        size += PyUnicode_GET_LENGTH(text)
    return size
