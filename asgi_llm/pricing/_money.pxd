cpdef tuple price_text(tuple rates, tokens_in, tokens_out)
