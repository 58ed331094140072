"""Running benchmarks one after another: what one has said stays, whatever becomes of it, and the next one runs."""

import json
from pathlib import Path

import pytest

from scripts.bench.lib.report import Row, circumstances, publish
from scripts.bench.lib.running import ROOT, all_of, bench_at
from scripts.bench.lib.table import Line, keep, kept, table

GOOD = "print('said')"
BROKEN = "print('said')\nraise SystemExit(2)"
HANGS = "print('said')\nimport threading\nthreading.Event().wait()"


def a_file(folder: Path, name: str, code: str, minutes: float = 1.0) -> Path:
    path = folder / f"{name}.py"
    path.write_text(f'"""A benchmark."""\n# minutes: {minutes}\n# peers: one two\n{code}\n')
    return path


def test_one_that_fails_or_hangs_keeps_none_of_the_others_from_running(tmp_path: Path) -> None:
    codes = {"broken": BROKEN, "hangs": HANGS, "good": GOOD}
    minutes = {"hangs": 0.05}  # three times that is more than an interpreter takes to start on a busy machine
    benches = [bench_at(a_file(tmp_path, name, code, minutes.get(name, 1.0))) for name, code in codes.items()]
    heard: list[str] = []
    failed = all_of(benches, heard.append)
    assert heard == ["said\n"] * 3
    assert failed == {"broken": "ended with status 2", "hangs": "ended after 0.15 minutes, 3 times what it should take"}


def test_a_benchmark_says_its_minutes_and_its_peers_itself(tmp_path: Path) -> None:
    bench = bench_at(a_file(tmp_path, "b", GOOD, 2.5))
    assert (bench.name, bench.minutes, bench.peers) == ("b", 2.5, ["one", "two"])


def test_all_benchmarks_take_no_longer_than_fifty_minutes() -> None:
    assert sum(bench_at(path).minutes for path in (ROOT / "scripts" / "bench").glob("*.py")) <= 50


def test_the_table_has_the_last_line_of_each_and_says_where_a_peer_was_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, table = tmp_path / "lines.jsonl", tmp_path / "table.md"
    for value in (1.0, 3.0):
        rows = [
            Row(work="w", peer="p", measure="texts/s", values=[value, value + 1], at_least=2.0),
            Row(work="w", peer="q", measure="texts/s", values=[], at_least=2.0),
        ]
        publish("some", rows, threads=1)
        keep(capsys.readouterr().out.splitlines()[-1], lines, table)
    assert len(lines.read_text().splitlines()) == 1
    text = table.read_text()
    assert "| w | p | texts/s | 3.5 x [3, 4] |  | ≥ 2 x | reached |" in text
    assert "|  | q | texts/s | peer not installed |  | ≥ 2 x |  |" in text
    assert f"commit {json.loads(lines.read_text())['commit']}" in text


def test_a_missed_row_leads_to_what_shows_the_limit_below_what_the_benchmark_says_of_itself(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text('"""Ours beside theirs.\n\nUsage."""\n# limits: docs/why.md\n')
    row = Row(work="w", peer="", measure="m", values=[0.25], unit="ms", at_most=0.1).as_json()
    line = {"bench": "some", "rows": [row], "facts": {}, **circumstances()}
    text = table([line], tmp_path)
    assert "## some\n\nOurs beside theirs.\n" in text
    assert "| w |  | m | 0.25 ms |  | ≤ 0.1 ms | [**missed**](why.md) |" in text


def test_benchmarks_stand_in_the_order_of_what_is_promised_not_of_the_alphabet() -> None:
    lines: list[Line] = []
    for name in ("routing", "images", "text alone 20M", "text together 20M", "audio", "audio"):
        lines = kept(lines, {"bench": name})
    assert [line["bench"] for line in lines] == ["text together 20M", "text alone 20M", "audio", "images", "routing"]
