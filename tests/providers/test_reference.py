"""The provider reference says what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_llm.providers._echo_transport import MODELS
from asgi_llm.providers._quirks import QUIRKS
from asgi_llm.providers.compatible import COMPATIBLE

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "providers.md").read_text()


@pytest.mark.parametrize("type_name", sorted(COMPATIBLE))
def test_each_endpoint_has_its_row(type_name: str) -> None:
    """With its URL, its key variable, its operations and its quirks."""
    row = COMPATIBLE[type_name]
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{type_name}` |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert row.title == cells[1]
    assert (f"`{row.base_url}`" if row.base_url else "yours, must be given") == cells[2]
    assert (f"`{row.key_variable}`" if row.key_variable else "no key") == cells[3]
    assert f"`{row.provider_name}`" == cells[4]
    assert {o.replace("_", " ") for o in row.operations} == set(cells[5].split(", "))
    assert (sorted(f"`{quirk}`" for quirk in row.quirks) or ["none"]) == cells[6].split(", ")


def test_each_quirk_has_its_row() -> None:
    """With its meaning, word for word."""
    for quirk, meaning in QUIRKS.items():
        assert f"| `{quirk}` | {meaning} |" in PAGE


def test_each_model_that_is_an_order_is_described() -> None:
    """Those of the echo provider."""
    for model in MODELS[1:]:
        assert f"`{model}`" in PAGE or model.startswith("error-")
