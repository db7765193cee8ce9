cpdef object hand_on(object send, object message, object then, object answer)
