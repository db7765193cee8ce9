cpdef bytes content_of(object data)
