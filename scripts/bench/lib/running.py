"""Runs benchmarks one after another, each for a bounded time, and keeps what each says when it says it.

Called by scripts/bench/run. Not about what a line becomes (table.py).
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.bench.lib.table import keep

ROOT: Final = Path(__file__).resolve().parents[3]
_PATIENCE: Final = 3.0  # times the minutes that it says it takes: a busy machine is slower
_NOTED: Final = re.compile(r"^# (minutes|peers): (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Bench:
    """One benchmark and what it says of itself."""

    path: Path
    minutes: float
    peers: Sequence[str]

    @property
    def name(self) -> str:
        return self.path.stem


def bench_at(path: Path) -> Bench:
    noted = dict(_NOTED.findall(path.read_text(encoding="utf-8")))
    return Bench(path, float(noted["minutes"]), noted.get("peers", "").split())


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(bench: Bench, heard: Callable[[str], object], patience: float = _PATIENCE) -> str:
    """Why it failed; "" when it did not. heard: gets each line that it prints."""
    command = [sys.executable, "-u", bench.path]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        late = threading.Timer(bench.minutes * 60 * patience, os.killpg, (process.pid, signal.SIGKILL))
        late.start()
        for line in process.stdout or ():
            heard(line)
        status, is_late = process.wait(), not late.is_alive()
        late.cancel()
    if is_late:
        return f"ended after {bench.minutes * patience:g} minutes, {patience:g} times what it should take"
    return f"ended with status {status}" if status else ""


def all_of(benches: Sequence[Bench], heard: Callable[[str], object], patience: float = _PATIENCE) -> dict[str, str]:
    """Those that failed, and why."""
    failed = {}
    for place, bench in enumerate(benches):
        say(
            f"\033[1m{bench.name}\033[0m ({place + 1} of {len(benches)}): about {bench.minutes:g} minutes{_then(benches[place + 1 :])}"
        )
        began_s = time.monotonic()
        if why := run(bench, heard, patience):
            failed[bench.name] = why
        say(f"{bench.name}: {why or 'done'}, {(time.monotonic() - began_s) / 60:.1f} minutes")
    return failed


def _then(left: Sequence[Bench]) -> str:
    minutes = sum(bench.minutes for bench in left)
    return f"; then {', '.join(bench.name for bench in left)}, about {minutes:g} minutes more" if left else "; the last"


def see_to_peers(benches: Sequence[Bench], *, may_make: bool) -> None:
    """A peer that cannot be had is no reason not to run: its rows say so."""
    for name in dict.fromkeys(peer for bench in benches for peer in bench.peers):
        if may_make and subprocess.run([ROOT / "scripts" / "bench" / "peers", name], check=False).returncode:
            say(f"peer {name} could not be installed (see above): its rows will say that it is not")
        elif not may_make and not (ROOT / f".venv-peer-{name}" / ".made").exists():
            say(f"peer {name} is not installed, and its rows will say so: scripts/bench/run --peers installs it")


def show(line: str) -> None:
    """Passes it on, and keeps it when it is one for the table."""
    print(line, end="", flush=True)
    if line.startswith('{"bench"'):
        keep(line)


def main() -> None:
    there = {path.stem: path for path in sorted((ROOT / "scripts" / "bench").glob("*.py"))}
    parser = argparse.ArgumentParser(prog="scripts/bench/run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(there)}; without: all")
    parser.add_argument("--peers", action="store_true", help="make the environments of peers that are not there yet")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in there]:
        parser.error(f"there is no benchmark {', '.join(unknown)}: name some of {', '.join(there)}")
    benches = [bench_at(there[name]) for name in options.names or there]
    say(f"{len(benches)} benchmarks, about {sum(bench.minutes for bench in benches):g} minutes on two quiet cores")
    see_to_peers(benches, may_make=options.peers)
    failed = all_of(benches, show)
    say(f"{len(benches) - len(failed)} of {len(benches)} ran to their end; the table is docs/benchmarks.md")
    for name, why in failed.items():
        say(f"\033[1m{name} failed\033[0m: {why}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
