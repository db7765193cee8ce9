from __future__ import annotations

from asgi_llm._traceback import describe
from asgi_llm.errors import ConfigurationError, InvalidRequestError

SECRET = "the prompt of a client"


def caught(error: BaseException) -> BaseException:
    """``error`` with a traceback."""
    try:
        raise error
    except BaseException as raised:
        return raised


def chain(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = caught(cause)
    return caught(error)


def test_places_and_types_are_told_and_messages_are_not() -> None:
    """The whole chain is there, earliest first, without the words of any exception."""
    text = describe(chain(ValueError(SECRET), InvalidRequestError(SECRET)))
    first, _, second = text.partition("which led to:\n")
    assert first.endswith("asgi_llm.errors.InvalidRequestError\n")
    assert second.endswith("\nValueError\n")
    assert 2 == text.count("test_traceback.py")
    assert SECRET not in text


def test_words_of_the_system_and_of_the_settings_are_told() -> None:
    """What the operating system says, and what is wrong with a setting, quotes no client."""
    refused = describe(ConnectionRefusedError(111, "Connection refused"))
    assert "ConnectionRefusedError: Connection refused\n" == refused
    assert describe(ConfigurationError("port is taken")).endswith(": port is taken\n")


def test_a_suppressed_context_is_left_out() -> None:
    """``raise ... from None`` hides the context here too."""
    try:
        try:
            raise KeyError(SECRET)
        except KeyError:
            raise ValueError from None
    except ValueError as error:
        assert "KeyError" not in describe(error)


def test_a_group_tells_each_of_its_errors() -> None:
    """Errors of a task group are told one by one."""
    text = describe(ExceptionGroup(SECRET, [ValueError(SECRET), KeyError(SECRET)]))
    for name in ("ValueError\n", "KeyError\n", "which were grouped in:\nExceptionGroup\n"):
        assert name in text
    assert SECRET not in text


def test_a_chain_that_bites_its_tail_or_never_ends_is_cut() -> None:
    """A cycle ends, and a chain of a thousand is told in a few."""
    error = ValueError()
    error.__cause__ = KeyError()
    error.__cause__.__cause__ = error
    assert "KeyError\nwhich led to:\nValueError\n" == describe(error)
    long: BaseException = ValueError()
    for _ in range(1000):
        later = ValueError()
        later.__cause__ = long
        long = later
    assert 16 == describe(long).count("ValueError")
