"""Which parts of a document are texts: all but what is known to be something else."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from asgi_llm.middleware._guard_texts import read_texts, with_texts
from asgi_llm.middleware.guardrails import Guardrail, GuardrailsMiddleware
from asgi_llm.testing import chat_answer
from tests.middleware.guardrails.probes import App, ask, cards, chat, emails

SECRET = "alice@example.com"
CARD = "4111-1111-1111-1111"
SOUND = base64.b64encode(bytes(range(128, 256)) * 3).decode()


def parts(**part: Any) -> dict[str, Any]:
    """A chat with one content part."""
    return chat({"role": "user", "content": [part]})


def picture(url: str) -> dict[str, Any]:
    return parts(type="image_url", image_url={"url": url})


def holding(**fields: Any) -> dict[str, Any]:
    """A chat with a tool that has a parameter."""
    schema = {"type": "object", "properties": fields}
    return chat("hi", tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}])


TEXTS = {
    "data with a colon": chat(f"data: my mail is {SECRET}"),
    "no data URL": chat(f"data:text/plain my mail is {SECRET}, ok"),
    "no base64": chat(f"data:text/plain;base64,my mail is {SECRET}"),
    "picture that is none": chat(f"data:image/png;base64,my mail is {SECRET}"),
    "picture without base64": picture(f"data:image/png,{SECRET}"),
    "picture that is text": picture(
        "data:image/png;base64," + base64.b64encode(f"mail {SECRET} now".encode()).decode()
    ),
    "head of a picture": picture(f"data:image/png;x={SECRET};base64,AAAA"),
    "head of a text": picture(f"data:text/plain;charset={SECRET},hi"),
    "type of media": picture(f"data:image/{SECRET};base64,AAAA"),
    "words behind a sound": chat(f"{SOUND}\n{CARD}"),
    "words behind a sound where it belongs": parts(
        type="input_audio", input_audio={"data": f"{SOUND}\n{CARD}", "format": "wav"}
    ),
    "sound in metadata": chat("hi", metadata={"data": SOUND + CARD}),
    "status in metadata": chat("hi", metadata={"status": SECRET}),
    "type in documents": chat("hi", documents=[{"type": SECRET}]),
    "mode of anybody's": chat("hi", x_more={"message": {"mode": CARD}}),
    "input of a call": parts(type="tool_use", id="a", name="f", input={"status": SECRET}),
    "id of a call": chat({"role": "tool", "tool_call_id": SECRET, "content": "hi"}),
    "number for an id": chat({"role": "tool", "tool_call_id": CARD, "content": "hi"}),
    "signature": parts(type="thinking", thinking="a", signature=f"by {SECRET}"),
    "schema": holding(mode={"default": "a", "status": SECRET}),
    "logprobs of a schema": holding(logprobs={"type": "string", "description": SECRET}),
    "numbers in front": chat("hi", x_more=[[0.93, SECRET]]),
    "letters that grow": chat(
        "\ufdfa" * 2000 + " " + base64.b64encode(f"mail {SECRET} now".encode()).decode()
    ),
}


@pytest.mark.parametrize("document", TEXTS.values(), ids=TEXTS)
async def test_what_only_looks_like_no_text_is_checked(document: Any) -> None:
    """A text is found whatever stands in front of it, and whatever its field is called."""
    app = App()
    layer = GuardrailsMiddleware(app, input=[emails(), cards()])
    assert 400 == (await ask(layer, document)).status
    assert 0 == app.calls
    app = App()
    rails = [Guardrail(guard=guard, action="redact") for guard in (emails(), cards())]
    await ask(GuardrailsMiddleware(app, input=rails), document)
    for body in app.bodies:
        assert SECRET.encode() not in body
        assert CARD.encode() not in body


NO_TEXTS = {
    "picture": picture(f"data:image/png;base64,{SOUND}"),
    "short picture": picture("data:image/jpeg;base64,/9j/4AAQSkZJRg=="),
    "sound": parts(type="input_audio", input_audio={"data": SOUND, "format": "wav"}),
    "sound in lines": parts(
        type="input_audio",
        input_audio={"data": base64.encodebytes(base64.b64decode(SOUND)).decode()},
    ),
    "file": parts(type="file", file={"file_data": f"data:application/pdf;base64,{SOUND}"}),
    "source": parts(type="image", source={"type": "base64", "data": SOUND}),
    "list": {"model": "m", "images": [f"data:image/png;base64,{SOUND}"]},
    "vector": {"model": "m", "x_more": [0.5, 1, 2.5]},
    "words": chat(
        {"role": "tool", "tool_call_id": "call_1-a", "content": ""},
        response_format={"type": "json_schema", "json_schema": {"schema": {"type": "string"}}},
    ),
}


@pytest.mark.parametrize("document", NO_TEXTS.values(), ids=NO_TEXTS)
def test_bytes_and_words_of_the_api_are_no_texts(document: Any) -> None:
    """Pictures, sounds and files are left out where the API has them, and so are its own words."""
    assert [] == read_texts(document)


def test_the_tokens_of_an_answer_are_no_texts() -> None:
    """They say the content once more. A request has nothing of the kind."""
    answer = chat_answer("hi")
    answer = {"choices": answer["choices"]}
    answer["choices"][0]["logprobs"] = {"content": [{"token": "hi", "logprob": 0}]}
    assert ["hi"] == [text.text for text in read_texts(answer, is_answer=True)]
    assert ["hi", "hi"] == [text.text for text in read_texts(answer)]


@pytest.mark.parametrize(
    "url",
    [
        "data:,a%20b",
        "data:;base64,YSBi",
        "data:text/plain;charset=utf-8;base64,YSBi",
        "data:Application/JSON,a%20b",
    ],
)
def test_data_urls_of_text_are_opened(url: str) -> None:
    """What they hold is the text, and is put back as it came."""
    (text,) = read_texts({"url": url})
    assert ("a b", "data") == (text.text, text.kind)
    assert {"url": url} == with_texts({"url": url}, [(text, "a b")])
