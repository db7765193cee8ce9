cpdef object send_both(send, first, second)
