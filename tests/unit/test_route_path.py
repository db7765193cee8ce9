"""``route_path``: one reading of a path, whatever host hands it over and however it is written."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_llm._asgi import route_path

ROUTE = "/v1/chat/completions"

HOSTS: dict[str, dict[str, Any]] = {
    "not mounted": {"path": ROUTE},
    "not mounted, empty root_path": {"path": ROUTE, "root_path": ""},
    "Starlette mount": {"path": f"/llm{ROUTE}", "root_path": "/llm", "app_root_path": ""},
    "FastAPI(root_path), proxy strips": {
        "path": f"/llm{ROUTE}",
        "root_path": "/myapp/llm",
        "app_root_path": "/myapp",
    },
    "FastAPI(root_path), proxy does not strip": {
        "path": f"/myapp/llm{ROUTE}",
        "root_path": "/myapp/llm",
        "app_root_path": "/myapp",
    },
    "uvicorn --root-path": {"path": f"/myapp{ROUTE}", "root_path": "/myapp"},
    "uvicorn --root-path, mounted": {
        "path": f"/myapp/llm{ROUTE}",
        "root_path": "/myapp/llm",
        "app_root_path": "/myapp",
    },
    "hypercorn root_path, proxy strips": {"path": ROUTE, "root_path": "/myapp"},
    "Litestar mount": {"path": f"{ROUTE}/", "root_path": ""},
    "Litestar mount at /": {"path": f"{ROUTE[1:]}/", "root_path": ""},
    "Litestar handler wrapped": {"path": f"/llm{ROUTE}", "root_path": "/llm"},
    "Hypercorn dispatcher": {"path": f"/llm{ROUTE}", "root_path": "/llm"},
    "BlackSheep mount": {"path": f"/llm{ROUTE}", "root_path": "/llm"},
    "root_path with a trailing slash": {"path": f"/llm{ROUTE}", "root_path": "/llm/"},
    "root_path is a slash": {"path": ROUTE, "root_path": "/"},
    "root_path is None": {"path": ROUTE, "root_path": None},
    "two mounts": {"path": f"/a/b{ROUTE}", "root_path": "/a/b", "app_root_path": ""},
    "two mounts behind a stripping proxy": {
        "path": f"/a/b{ROUTE}",
        "root_path": "/myapp/a/b",
        "app_root_path": "/myapp",
    },
    "the mount is called like the route": {"path": f"/v1{ROUTE}", "root_path": "/v1"},
    "trailing slash": {"path": f"{ROUTE}/"},
}


@pytest.mark.parametrize("scope", HOSTS.values(), ids=HOSTS)
def test_a6_every_host_hands_over_the_same_route(scope: dict[str, Any]) -> None:
    """One route reads the same in every form that hosts give it."""
    assert route_path(scope) == ROUTE


BARE: dict[str, dict[str, Any]] = {
    "server": {"path": "/"},
    "empty path": {"path": ""},
    "mount without a slash": {"path": "/llm", "root_path": "/llm"},
    "mount with a slash": {"path": "/llm/", "root_path": "/llm"},
    "stripping proxy": {"path": "/llm", "root_path": "/myapp/llm", "app_root_path": "/myapp"},
    "Litestar": {"path": "/", "root_path": ""},
}


@pytest.mark.parametrize("scope", BARE.values(), ids=BARE)
def test_the_bare_mount_is_the_root(scope: dict[str, Any]) -> None:
    """The mount point itself is ``/``, with its slash and without."""
    assert route_path(scope) == "/"


ELSEWHERE: dict[str, tuple[dict[str, Any], str]] = {
    "longer segment": ({"path": "/llmx/v1", "root_path": "/llm"}, "/llmx/v1"),
    "longer segment, bare": ({"path": "/llmx", "root_path": "/llm"}, "/llmx"),
    "longer segment behind a proxy": (
        {"path": "/llmx/v1", "root_path": "/myapp/llm", "app_root_path": "/myapp"},
        "/llmx/v1",
    ),
    "shorter": ({"path": "/ll", "root_path": "/llm"}, "/ll"),
    "upper case": ({"path": "/LLM/v1", "root_path": "/llm"}, "/LLM/v1"),
    "prefix further in": ({"path": "/a/llm/v1", "root_path": "/llm"}, "/a/llm/v1"),
    "app_root_path is no part of root_path": (
        {"path": "/v1/x", "root_path": "/llm", "app_root_path": "/other"},
        "/v1/x",
    ),
    "cut once": ({"path": "/llm/llm/v1", "root_path": "/llm"}, "/llm/v1"),
}


@pytest.mark.parametrize(("scope", "expected"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a6_the_prefix_ends_on_a_segment_border(scope: dict[str, Any], expected: str) -> None:
    """A path that only begins like the prefix is left whole, and the prefix is cut once."""
    assert route_path(scope) == expected


ROUTES = ("/", "/v1/chat/completions", "/v1/models", "/health", "/docs")

# As `path` has them: decoded once by the server.
ODD = (
    "/{route}",  # //v1/chat/completions
    "{route}//",
    "/.{route}",
    "{route}/.",
    "{route}/..",
    "/v1/..{route}",
    "{route};a=b",
    "{route}\x00",
    "{route}%00",
    "{route}%2F",
    "%2F{route}",
    "/%2e%2e{route}",
    "{route}?",
    "{route}#x",
    "{route} ",
    "\\{route}",
    "{route}\ufffd",
    "{route}\u2028",
)


@pytest.mark.parametrize("root", ["", "/llm"])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("odd", ODD)
def test_a5_a_path_that_is_not_normal_is_no_route(odd: str, route: str, root: str) -> None:
    """No odd form of a path becomes a route: nothing is decoded again, merged or resolved."""
    path = root + odd.format(route=route)
    assert route_path({"path": path, "root_path": root}) not in ROUTES


@pytest.mark.parametrize("root", ["", "/llm"])
@pytest.mark.parametrize("route", ROUTES[1:])
def test_a5_case_and_inner_slashes_count(route: str, root: str) -> None:
    """Upper case and a doubled slash inside make another path."""
    for path in (route.upper(), route.replace("/", "//")):
        assert route_path({"path": root + path, "root_path": root}) == path


def test_a6_a_prefix_sent_by_the_client_is_not_a_mount() -> None:
    """A client that repeats the prefix reaches no route, mounted or not."""
    assert route_path({"path": f"/llm{ROUTE}", "root_path": ""}) == f"/llm{ROUTE}"
    assert route_path({"path": f"/llm/llm{ROUTE}", "root_path": "/llm"}) == f"/llm{ROUTE}"
