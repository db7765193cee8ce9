"""Modules that can be compiled: each has a source, and none is older than it."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

import asgi_llm

_DECLARED = sorted(Path(asgi_llm.__file__).parent.rglob("*.pxd"))
_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def _sources(pxd: Path) -> list[Path]:
    pyx = pxd.with_suffix(".pyx")
    return [pxd, pyx if pyx.exists() else pxd.with_suffix(".py")]


def test_what_is_declared_has_a_source() -> None:
    """Types are declared for modules that are there, beside them."""
    assert [] == [pxd.name for pxd in _DECLARED if not pxd.with_suffix(".py").is_file()]


def test_what_is_compiled_is_of_its_source() -> None:
    """No compiled module beside its source is older, for it is imported in its place."""
    compiled = {pxd: pxd.with_name(pxd.stem + _SUFFIX) for pxd in _DECLARED}
    there = {pxd: module for pxd, module in compiled.items() if module.exists()}
    if not there:
        pytest.skip("nothing is compiled here")
    stale = [
        module.name
        for pxd, module in there.items()
        if any(source.stat().st_mtime > module.stat().st_mtime for source in _sources(pxd))
    ]
    assert [] == stale, "run: python hatch_build.py"
