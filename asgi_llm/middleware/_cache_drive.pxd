from asgi_llm.middleware._cache_flight cimport Flight, Flights


cpdef object hand_on(Flight flight, data)
cpdef object drive(running, Flights flights, key, Flight flight)
