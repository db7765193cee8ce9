cimport cython


cpdef tuple price_text(tuple rates, tokens_in, tokens_out)
@cython.locals(digits=str, text=str, short=Py_ssize_t)
cpdef str format_pico(amount)
