cpdef str route_path(object scope)
cdef str _below(str path, str root)
