import os
from ours import provider_app as _p
V=os.environ.get("V","").split(",")
def app():
    import gc
    if "gc" in V: gc.disable()
    if "freeze" in V:
        gc.collect(); gc.freeze(); gc.set_threshold(20000,50,100)
    import asgi_llm.providers.app as A, asgi_llm.providers._exchange as X
    if "watch" in V:
        class W:
            def __init__(s,r,send,t): s.send=send
            def __enter__(s): return s
            def __exit__(s,*a): return False
        A.ClientWatch=W
    if "validate" in V: A.validate=lambda o,d: d
    if "fake" in V:
        from asgi_llm.transports.base import UpstreamRequest
        from tests.performance.wire import answer_body
        ans=answer_body()
        class R:
            status=200; framed=True; headers=[(b"content-type",b"application/json"),(b"content-length",b"720")]
            async def read(self,n): return ans
            async def aclose(self): pass
        class T:
            async def send(self,req,t): return R()
            async def aclose(self): pass
        from asgi_llm.providers.openai import OpenAI
        return A.ProviderApp([OpenAI(api_key="x")],transport=T())
    if "raw" in V:
        # http1 only
        from asgi_llm.transports.http1 import Http1Transport
        from asgi_llm.transports.base import UpstreamRequest, Timeouts
        t=Http1Transport(); to=Timeouts(); url=os.environ["PERFORMANCE_UPSTREAM"]+"/v1/chat/completions"
        H=[(b"content-type",b"application/json"),(b"authorization",b"Bearer x")]
        async def app(scope,receive,send):
            if scope["type"]!="http":
                from anchors import _answer_lifespan
                return await _answer_lifespan(receive,send)
            m=await receive()
            r=await t.send(UpstreamRequest("POST",url,H,m["body"]),to)
            b=await r.read(10**8); await r.aclose()
            await send({"type":"http.response.start","status":200,"headers":[(b"content-type",b"application/json"),(b"content-length",b"%d"%len(b))]})
            await send({"type":"http.response.body","body":b})
        return app
    return _p()
