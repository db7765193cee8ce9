cpdef object send_both(object send, object first, object second)
cpdef object hand_on(object send, object message, object then, object answer)
