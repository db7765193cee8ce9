cimport cython
from asgi_llm.pricing._money cimport price_text
from asgi_llm.pricing._pico cimport format_pico, price_pico


# It holds nothing that could hold it.
@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class TextBill:
    cdef object _rates
    cdef object _source
    cdef bint _is_whole
    cdef readonly object tokens_in
    cdef readonly object tokens_out
    cdef readonly object amount

    @cython.locals(pico=tuple)
    cdef _begin(self, object rates, object source, object tokens_in, object tokens_out)
    cpdef str text(self)


@cython.locals(bill=TextBill)
cpdef TextBill make_bill(object rates, object source, object tokens_in, object tokens_out)
