cpdef object price_pico(tuple rates, object tokens_in, object tokens_out)
cpdef str format_pico(object amount)
