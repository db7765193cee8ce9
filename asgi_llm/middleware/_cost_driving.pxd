from asgi_llm.middleware._cost_answer cimport CostedAnswer

cpdef object drive(object app, object scope, CostedAnswer answer)
