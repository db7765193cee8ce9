cimport cython
from asgi_llm.pricing._money cimport format_pico, price_text


# It holds nothing that could hold it.
@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class TextBill:
    cdef object _rates
    cdef object _source
    cdef object _tokens_in
    cdef object _tokens_out
    cdef readonly object amount

    @cython.locals(pico=tuple)
    cpdef str text(self)
