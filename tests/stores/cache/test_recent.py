"""The table of answers in the order of their last use, in Python and in C."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.stores._kept_answer import KeptAnswer, keep_answer
from asgi_llm.stores._recent import RecentTable
from asgi_llm.stores.cache import StoredAnswer

_STEPS = st.lists(
    st.tuples(st.sampled_from(("add", "use", "remove", "oldest", "clear")), st.integers(0, 5))
)


def kept(body: bytes = b"{}") -> KeptAnswer:
    return keep_answer(
        StoredAnswer(
            body=body, operation="chat", scope="s", model="m", fresh_seconds=1.0, keep_seconds=2.0
        )
    )


@given(_STEPS)
def test_it_is_an_ordered_dictionary(steps: list[tuple[str, int]]) -> None:
    """Whatever is done, it has what such a dictionary has, in the same order."""
    table = RecentTable()
    model: OrderedDict[bytes, KeptAnswer] = OrderedDict()
    for step, number in steps:
        key = b"%d" % number
        found = model.get(key)
        if step == "clear":
            table.clear()
            model.clear()
        elif step == "oldest":
            assert next(iter(model), None) == table.oldest()
        elif found is None and step == "add":
            model[key] = kept(key)
            table.add(key, model[key])
        elif found is not None and step == "use":
            table.use(key, found)
            model.move_to_end(key)
        elif found is not None and step == "remove":
            assert model.pop(key) is table.remove(key)
        assert (list(model), len(model)) == (table.in_order(), len(table))
        assert all(table.get(one) is model[one] for one in model)


def test_keys_are_there_once() -> None:
    """What is there cannot be put there, and what is not there cannot be used or taken out."""
    table, one = RecentTable(), kept()
    table.add(b"a", one)
    with pytest.raises(ValueError, match="there already"):
        table.add(b"a", kept())
    with pytest.raises(KeyError):
        table.use(b"b", one)
    with pytest.raises(KeyError):
        table.use(b"a", kept())
    with pytest.raises(KeyError):
        table.remove(b"b")
    assert table.get(b"b") is None
    assert [b"a"] == table.in_order()


def test_what_was_taken_out_may_be_put_back() -> None:
    """Under another key, and in another table."""
    table, other = RecentTable(), RecentTable()
    one = kept()
    table.add(b"a", one)
    table.remove(b"a")
    other.add(b"b", one)
    other.clear()
    table.add(b"c", one)
    assert ([b"c"], []) == (table.in_order(), other.in_order())
    assert one is table.get(b"c")
