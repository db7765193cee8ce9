"""What is recorded in place of being served, and what is made of the records."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway.cache_commands import cache as cache_group
from asgi_llm.middleware._semantic_shadow import ShadowFile, ShadowRecord
from asgi_llm.middleware.semantic_cache import SemanticCacheMiddleware
from asgi_llm.testing import ManualClock, chat_answer
from tests.middleware.exact_cache.conftest import App, ask, cache_of
from tests.middleware.semantic_cache.conftest import ALIKE, NEAR_MISS, WordEmbedder, asks

MISS = (b"MISS", None)


async def test_observe_serves_nothing_and_records_all() -> None:
    """Every request reaches the model; records say what would have been served."""
    records: list[ShadowRecord] = []
    answers = iter(["The link.", "The link.", "Do nothing at all, friend."])
    app = App(lambda number: chat_answer(next(answers)))
    cache = SemanticCacheMiddleware(
        app, embedder=WordEmbedder(), mode="observe", shadow=records.append
    )
    for text in (ALIKE[0], ALIKE[1], NEAR_MISS):
        assert MISS == cache_of(await ask(cache, asks(text)))
    assert [(None, True, True), ("negation", False, False)] == [
        (record.guard, record.served, record.same) for record in records
    ]
    assert [None, None] == [record.new_text for record in records]


async def test_texts_are_recorded_by_option_only(tmp_path: Path) -> None:
    """With ``shadow_texts`` both texts are in the file, which is the user's alone."""
    path = tmp_path / "shadow.jsonl"
    sink = ShadowFile(path)
    cache = SemanticCacheMiddleware(
        App(), embedder=WordEmbedder(), mode="observe", shadow=sink, shadow_texts=True
    )
    for text in ALIKE[:2]:
        await ask(cache, asks(text))
    sink.close()
    (row,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert (ALIKE[1], ALIKE[0], True) == (row["new_text"], row["old_text"], row["served"])
    assert 0o600 == stat.S_IMODE(os.stat(path).st_mode)


def test_the_file_is_bounded(tmp_path: Path) -> None:
    """A file that is full gets no further records; one that cannot be opened is named."""
    record = ShadowRecord(time=1.0, request_id="r", entry_id="e", model="m", similarity=0.9)
    sink = ShadowFile(tmp_path / "a", max_bytes=100)
    for _ in range(5):
        sink(record)
    sink.close()
    assert 1 == len((tmp_path / "a").read_text().splitlines())
    with pytest.raises(ConfigurationError, match="path"):
        ShadowFile(tmp_path / "no" / "path")
    with pytest.raises(ConfigurationError, match="max_bytes"):
        ShadowFile(tmp_path / "b", max_bytes=0)


RECORD = ShadowRecord(time=1.0, request_id="r", entry_id="e", model="m", similarity=0.9)


def test_nothing_is_written_once_the_file_is_closed(tmp_path: Path) -> None:
    """Also not to whatever was opened next, and has its number."""
    sink = ShadowFile(tmp_path / "shadow")
    sink.close()
    with (tmp_path / "another").open("wb") as another:
        sink(RECORD)
        sink.close()
        another.write(b"whole")
    assert [b"whole", b""] == [path.read_bytes() for path in sorted(tmp_path.iterdir())]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
async def test_a_full_disk_breaks_no_request(caplog: pytest.LogCaptureFixture) -> None:
    """Answers are served and kept as ever; the log tells of it once a second."""
    clock = ManualClock()
    sink = ShadowFile("/dev/full", clock=clock)
    cache = SemanticCacheMiddleware(App(), embedder=WordEmbedder(), shadow=sink)
    for text in (*ALIKE[:2], NEAR_MISS):
        recorder = await ask(cache, asks(text))
        assert 200 == recorder.status
    assert (1, 2) == (cache.counts.hits, cache.counts.writes)
    assert 1 == caplog.text.count("No space left on device")
    clock.advance(1)
    sink(RECORD)
    assert 2 == caplog.text.count("/dev/full: ")
    sink.close()


def run(*arguments: str, text: str = "") -> Any:
    """Run ``asgi-llm cache``."""
    return CliRunner().invoke(cache_group, ["calibrate", *arguments], input=text)


def lines(*rows: dict[str, Any]) -> str:
    """Rows as lines of JSON."""
    return "".join(json.dumps(row) + "\n" for row in rows)


PAIRS = lines(
    *({"a": "a", "b": "a", "same": True, "similarity": 0.97} for _ in range(6)),
    *({"a": "a", "b": "a", "same": True, "similarity": 0.86} for _ in range(2)),
    {"a": "not a", "b": "a", "class": "near_miss", "cosine": 0.96},
    {"a": "cats", "b": "dogs", "same": False, "similarity": 0.60},
)


def test_calibrate_tells_the_threshold() -> None:
    """By similarity alone no threshold will do; with the guards the lowest one that is safe."""
    done = run("-", "--max-false-hits", "0.01", "--plot", text=PAIRS)
    assert 0 == done.exit_code
    assert "10 cases, 8 of them with a stored answer that is right." in done.output
    assert "threshold for at most 1.0% false hits: 0.97 (finds 75.0% of the right" in done.output
    assert "threshold for at most 1.0% false hits: 0.50 (finds 100.0% of the right" in done.output
    assert "cache hit ratio" in done.output


def test_calibrate_as_json_and_as_a_picture(tmp_path: Path) -> None:
    """The same figures for machines, and a plot to look at."""
    path = tmp_path / "pairs.jsonl"
    path.write_text(PAIRS)
    picture = tmp_path / "plot.svg"
    done = run(str(path), "--json", "--svg", str(picture))
    report = json.loads(done.output)
    assert (10, 8) == (report["cases"], report["right"])
    assert (0.97, 0.5) == (
        report["similarity_alone"]["threshold"],
        report["with_the_guards"]["threshold"],
    )
    at_half = report["similarity_alone"]["points"][0]
    assert [1.0, 0.2] == pytest.approx([at_half["hit_rate"], at_half["false_hit_rate"]])
    assert 0.8 == pytest.approx(report["with_the_guards"]["p_chr_auc"])
    assert picture.read_text().startswith("<svg")


async def test_calibrate_reads_shadow_records(tmp_path: Path) -> None:
    """What the mode ``observe`` has written is read as it is; what was not compared is left out."""
    path = tmp_path / "shadow.jsonl"
    sink = ShadowFile(path)
    for same in (True, True, False, None):
        sink(
            ShadowRecord(
                time=1.0, request_id="r", entry_id="e", model="m", similarity=0.9, same=same
            )
        )
    sink.close()
    done = run(str(path))
    assert "3 cases, 2 of them" in done.output


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("no json\n", "line 1 is not JSON"),
        ("3\n", "line 1 is no object"),
        ('{"same": true}\n', "neither a similarity nor two texts"),
        ('{"a": "x", "b": "y", "similarity": 1}\n', "no label"),
        ("\n", "holds no case"),
        ('{"a": "x", "b": "y", "same": true}\n', "--embedder"),
    ],
)
def test_calibrate_says_what_is_wrong(text: str, cause: str) -> None:
    """A line that cannot be read is named, and the command ends with 2."""
    done = run("-", text=text)
    assert 2 == done.exit_code
    assert cause in done.output
