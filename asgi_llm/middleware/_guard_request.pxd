cimport cython

from asgi_llm._asgi cimport route_path
from asgi_llm._body cimport ArrivingBody, BufferedBody, check_and_take
from asgi_llm.middleware._guard_answer cimport GuardedAnswer, to_answer
from asgi_llm.middleware._guard_chat cimport read_simple_request
from asgi_llm.middleware._guard_panel cimport Panel
from asgi_llm.middleware._guard_quick cimport PanelLook
from asgi_llm.middleware._guard_shared cimport Guarded, Guards
from asgi_llm.state cimport State, enter

cdef frozenset _ANSWERS_WITHOUT_TEXT


@cython.locals(request=GuardedRequest, path=str, state=State)
cpdef object begin(Guards guards, object scope, object receive, object send)


@cython.final
@cython.freelist(64)
cdef class GuardedRequest(Guarded):
    cdef object _scope, _receive, _send, _arriving, _data, _failure
    cdef str _judged
    cdef Panel _input
    cdef BufferedBody _body
    cdef GuardedAnswer _sending

    cdef object _open(self)
    cpdef object go(self)
    cpdef object rest(self)
    cpdef object end(self)
    @cython.locals(panel=Panel, look=PanelLook, simple=tuple)
    cdef object _judge_body(self, object data)
    @cython.locals(guards=Guards, panel=Panel, of_answers=Panel)
    cdef Panel _choose(self, object document)
    cdef object _read(self, object data)
