"""The admin API over the caches: figures, entries, and what is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_llm.gateway.admin import Part, admin_paths, build_admin_app
from asgi_llm.stores.directory_memory import MemoryDirectory
from tests.gateway.admin.caches import PROMPT, fill_caches
from tests.gateway.admin.world import ADMIN, API, START

PURGE = "/admin/caches/purge"


async def test_figures_and_savings(memory_api: API) -> None:
    """Of both caches, with what each counts besides."""
    answer = await memory_api.ask(ADMIN, "GET", "/admin/caches")
    exact, semantic = answer.json["data"]
    assert ("exact", 4, 3, 2, 30, 12) == tuple(
        exact[name]
        for name in (
            *("name", "entries", "hits", "misses"),
            *("saved_input_tokens", "saved_output_tokens"),
        )
    )
    assert ("cache", "semantic", 4, 1) == tuple(
        semantic[name] for name in ("object", "name", "entries", "hits")
    )
    assert {"explored": 2, "confirmed": 0, "reported": 0, "refused_numbers": 5} == (
        semantic["details"]
    )


async def test_entries_are_listed_without_their_text(memory_api: API) -> None:
    """Page by page, by any of their labels, with what was learned of them."""
    path = "/admin/caches/entries"
    first = (await memory_api.ask(ADMIN, "GET", f"{path}?limit=3")).json
    assert ["entry-1", "entry-2", "entry-3"] == [one["id"] for one in first["data"]]
    rest = (await memory_api.ask(ADMIN, "GET", f"{path}?limit=3&after={first['next']}")).json
    assert (["entry-4"], None) == ([one["id"] for one in rest["data"]], rest["next"])
    for query, expected in (
        ("model=m1", ["entry-1", "entry-3"]),
        ("namespace=n&scope=organization:org_b", ["entry-4"]),
        ("id=entry-2", ["entry-2"]),
        ("id=entry-9", []),
    ):
        answer = await memory_api.ask(ADMIN, "GET", f"{path}?{query}")
        assert expected == [one["id"] for one in answer.json["data"]]
        assert PROMPT.encode() not in answer.body
    assert ("cache.entry", "organization:org_a", 3, 3) == tuple(
        first["data"][0][name] for name in ("object", "scope", "observations", "correct")
    )


PURGES: list[tuple[dict[str, Any], dict[str, int]]] = [
    ({"everything": True}, {"exact": 4, "semantic": 4}),
    ({"cache": "exact", "everything": True}, {"exact": 4}),
    ({"scope": "organization:org_a"}, {"exact": 2, "semantic": 2}),
    ({"model": "m1", "cache": "semantic"}, {"semantic": 2}),
    ({"namespace": ""}, {"exact": 2, "semantic": 2}),
    ({"scope": "organization:org_a", "model": "m2"}, {"exact": 1, "semantic": 1}),
    ({"key_id": "key_of_org_b"}, {"exact": 2}),
    ({"id": "entry-3"}, {"semantic": 1}),
    ({"older_than_seconds": 250, "cache": "semantic"}, {"semantic": 2}),
    ({"scope": "organization:nobody"}, {"exact": 0, "semantic": 0}),
]


@pytest.mark.parametrize(("body", "removed"), PURGES, ids=str)
async def test_what_fits_is_forgotten_and_that_is_in_the_log(
    memory_api: API, body: dict[str, Any], removed: dict[str, int]
) -> None:
    """All that is given has to fit; the rest stays."""
    answer = await memory_api.ask(ADMIN, "POST", PURGE, body)
    assert (200, {"object": "cache.purge", "removed": removed}) == (answer.status, answer.json)
    states = (await memory_api.ask(ADMIN, "GET", "/admin/caches")).json["data"]
    left = {state["name"]: state["entries"] for state in states}
    assert {name: 4 - removed.get(name, 0) for name in left} == left
    log = (await memory_api.ask(ADMIN, "GET", "/admin/audit?action=cache.purge")).json["data"]
    told = {name: value for name, value in body.items() if name != "cache"}
    [caches] = [removed.keys()]
    target = "all" if len(caches) == 2 else next(iter(caches))
    assert [(f"cache:{target}", told)] == [(one["target"], one["changes"]) for one in log]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "everything"),
        ({"cache": "exact"}, "everything"),
        ({"everything": True, "model": "m1"}, "everything"),
        ({"cache": "exact", "id": "entry-1"}, "cache"),
        ({"cache": "semantic", "key_id": "k"}, "cache"),
        ({"cache": "both", "everything": True}, "cache"),
        ({"older_than_seconds": -1}, "older_than_seconds"),
        ({"id": "two words"}, "id"),
    ],
)
async def test_a_purge_has_to_say_what_it_means(
    memory_api: API, body: dict[str, Any], param: str
) -> None:
    """422 with the field; nothing is forgotten, and nothing is in the log."""
    answer = await memory_api.ask(ADMIN, "POST", PURGE, body)
    assert (422, param) == (answer.status, answer.error[2])
    states = (await memory_api.ask(ADMIN, "GET", "/admin/caches")).json["data"]
    assert [4, 4] == [state["entries"] for state in states]
    log = await memory_api.ask(ADMIN, "GET", "/admin/audit?action=cache.purge")
    assert [] == log.json["data"]


async def test_a_purge_is_noted_in_a_database_too(api: API) -> None:
    """With who did it and when."""
    api.app = build_admin_app(api.directory, clock=lambda: START, **await fill_caches())
    assert 200 == (await api.ask(ADMIN, "POST", PURGE, {"model": "m1"})).status
    [entry] = (await api.ask(ADMIN, "GET", "/admin/audit?action=cache.purge")).json["data"]
    assert ("cache:all", {"model": "m1"}) == (entry["target"], entry["changes"])


async def test_without_caches_there_are_no_such_paths() -> None:
    """Neither in the app nor in its description; one of the two is enough for them."""
    api = API(MemoryDirectory())
    for method, path in (("GET", "/admin/caches"), ("POST", PURGE)):
        assert 404 == (await api.ask(ADMIN, method, path)).status
    parts: list[Part] = ["directory"]
    assert "/admin/caches" not in admin_paths(parts)
    caches = await fill_caches()
    one = API(MemoryDirectory(), exact_cache=caches["exact_cache"])
    assert ["exact"] == [
        state["name"] for state in (await one.ask(ADMIN, "GET", "/admin/caches")).json["data"]
    ]
    assert [] == (await one.ask(ADMIN, "GET", "/admin/caches/entries")).json["data"]
    assert {"exact": 4} == (await one.ask(ADMIN, "POST", PURGE, {"everything": True})).json[
        "removed"
    ]
