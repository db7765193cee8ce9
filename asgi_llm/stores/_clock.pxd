cpdef double read_clock(object clock) except? -1
