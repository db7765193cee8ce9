cpdef bint is_plain_words(bytes data) except -1
