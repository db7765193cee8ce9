"""Recorded streams of every provider, broken: none of them looks whole to a client."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.providers.native_replay import providers_there
from tests.providers.replay_views.report import PAGE
from tests.providers.truncation import Stream, endings, endings_table, recorded_streams

WITHOUT_STREAMS = {"voyage"}


@pytest.fixture(scope="module")
def streams(recorded: Path) -> list[Stream]:
    """All of them."""
    return recorded_streams(recorded)


async def test_b19_no_broken_stream_ends_as_a_success(
    streams: list[Stream], capsys: pytest.CaptureFixture[str]
) -> None:
    """No finish reason, no usage as if whole, an error in OpenAI's form, an estimate of usage."""
    found = await endings(streams, ("dropped", "ended", "error"), (1, 2))
    with capsys.disabled():
        print("\n" + endings_table(found))
    assert [] == [(one.stream.id, one.way, one.problem) for one in found if one.problem]
    assert providers_there() - WITHOUT_STREAMS <= {stream.provider for stream in streams}
    told = re.search(r"(\d+) recorded streams", PAGE.read_text())
    assert told is not None
    assert int(told[1]) == len(streams)


async def test_the_same_streams_whole_are_successes(streams: list[Stream]) -> None:
    """So that the test above cannot pass because everything fails."""
    found = await endings(streams, ("whole",))
    assert [] == [(one.stream.id, one.problem) for one in found if one.problem]
