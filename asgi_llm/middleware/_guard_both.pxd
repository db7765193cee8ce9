cpdef object send_both(object send, object first, object second)
