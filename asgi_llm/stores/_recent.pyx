"""What C is made from in place of ``_recent.py``: a dictionary, and links from one to the next."""

cimport cython

from asgi_llm.stores._kept_answer cimport KeptAnswer

__all__ = ["RecentTable"]


@cython.final
cdef class RecentTable:
    """See ``_recent.py``."""

    def __cinit__(self):
        self._by_key = {}
        self._oldest = NULL
        self._newest = NULL

    def __len__(self):
        return len(self._by_key)

    cpdef KeptAnswer get(self, key):
        return <KeptAnswer> self._by_key.get(key)

    cpdef object use(self, key, KeptAnswer kept):
        if self._by_key.get(key) is not kept:
            raise KeyError(key)
        if self._newest != <void*> kept:
            self._unlink(kept)
            self._append(kept)

    cpdef object add(self, key, KeptAnswer kept):
        if kept is None or kept._key is not None or key in self._by_key:
            raise ValueError("it is there already")
        self._by_key[key] = kept
        kept._key = key
        self._append(kept)

    cpdef KeptAnswer remove(self, key):
        cdef KeptAnswer kept = <KeptAnswer> self._by_key.pop(key)
        kept._key = None
        self._unlink(kept)
        return kept

    cpdef object oldest(self):
        return None if self._oldest == NULL else (<KeptAnswer> self._oldest)._key

    cpdef list in_order(self):
        cdef list found = []
        cdef void* at = self._oldest
        while at != NULL:
            found.append((<KeptAnswer> at)._key)
            at = (<KeptAnswer> at)._newer
        return found

    cpdef object clear(self):
        cdef KeptAnswer kept
        self._oldest = self._newest = NULL
        for found in self._by_key.values():
            kept = <KeptAnswer> found
            kept._key = None
            kept._older = kept._newer = NULL
        self._by_key.clear()

    cdef void _append(self, KeptAnswer kept) noexcept:
        kept._older = self._newest
        kept._newer = NULL
        if self._newest == NULL:
            self._oldest = <void*> kept
        else:
            (<KeptAnswer> self._newest)._newer = <void*> kept
        self._newest = <void*> kept

    cdef void _unlink(self, KeptAnswer kept) noexcept:
        if kept._older == NULL:
            self._oldest = kept._newer
        else:
            (<KeptAnswer> kept._older)._newer = kept._newer
        if kept._newer == NULL:
            self._newest = kept._older
        else:
            (<KeptAnswer> kept._newer)._older = kept._older
        kept._older = kept._newer = NULL
