cimport cython
from asgi_llm.middleware._cost_bill cimport TextBill
from asgi_llm.middleware._cost_kinds cimport Place
from asgi_llm.middleware._cost_rows cimport Asked
from asgi_llm.stores._journal_short cimport ShortCall, new_call
from asgi_llm.stores.budgets_memory cimport MemoryBudgets
from asgi_llm.stores.journal cimport FileJournal


cdef class Books:
    cdef object _journal
    cdef object _packed
    cdef FileJournal _file
    cdef object _ledger
    cdef object _calls
    cdef MemoryBudgets _memory
    cdef object _alerts
    cdef object _clock
    cdef object _logger
    cdef double _next_log
    cdef object _unrecorded
    cdef public long long failures
    cdef public long long lost
    cdef public bint answer_at_once
    cdef public bint takes_usual

    @cython.locals(call=ShortCall, head=bytes)
    cpdef intend(self, Asked asked)
    cdef _intend(self, object journal, Asked asked, bytes head)
    cpdef close_at_once(self, Asked asked, object entries, object cost, object lease)
    @cython.locals(call=ShortCall, file=FileJournal)
    cpdef close_usual(
        self,
        Asked asked,
        Place place,
        object usage,
        TextBill bill,
        object amount,
        object lease,
        object latency_seconds,
        object first_seconds,
    )
    cdef _close_usual(
        self, Asked asked, ShortCall call, Place place, object usage, TextBill bill
    )
    @cython.locals(memory=MemoryBudgets, tells=bint)
    cpdef settle_at_once(self, Asked asked, object lease, object amount)
    cdef _told(self, Asked asked, object uses)
    cdef _settle(self, object journal, Asked asked, object entries)
    cdef _note(self, object who, object error)
