"""Run the recorded customer-service conversations again, on real tools, with real kills and real faults.

    python examples/retail_desk/rerun.py --data DIR [--model gpt-4.1] [--kills N] [--faults P] [--json]

`DIR` holds the recordings (`tau/`). A database process performs and counts. A worker process runs the
desk; it is killed with SIGKILL `N` times over the set, at random moments, and started again. Each attempt of
a tool call fails with probability `P`. What is printed is counted outside the worker's store, except what
says otherwise.

The exit status is 0 if every run ended as recorded (see `is_as_recorded`) and all kills took place, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import select
import shutil
import signal
import socket as sockets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import anyio
import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import holdfast as hf
from retail_desk import audit
from retail_desk.client import ask_now, running_database
from retail_desk.faults import DEFAULT_FAULTS, FAULT_KINDS, Moment
from retail_desk.recordings import DATABASE_FILE, RECORDINGS, Recording, Step, judge, load
from retail_desk.records import JsonObject
from retail_desk.shop import WRITES, load_database
from retail_desk.worker import Report

MOST_AT_ONCE: Final = 16
MOST_DELAY_S: Final = 0.02
"""How long after its moment has come a kill may wait."""
KILLED_AT_START: Final = 0.1
"""The share of kills that come while a worker starts: before it opens the store, or as it takes runs over."""
START_S: Final = 0.8
WORKER_LIMIT_S: Final = 900.0
MOMENTS: Final[tuple[Moment, ...]] = ("before", "after", "any")
AT_A_WRITE: Final = 0.7
"""The share of kills with calls held that wait for a write to be among them, for a while."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is printed."""

    runs: int
    tool_calls: int
    """Recorded calls that have a recorded result."""
    identical_results: int
    """... whose result the model read exactly as recorded, each time it read it."""
    errors_in_other_words: int
    """... whose result is an error here and there, but reads otherwise."""
    verdicts: int
    """Runs that were judged when they were recorded."""
    identical_verdicts: int
    """... and whose final database, judged anew, has the same verdict."""
    kills: int
    resumed: int
    """Unfinished runs that a started worker found, summed over the kills."""
    duplicated_effects: int
    lost_effects: int
    redone_steps: int
    repeated_writes: int
    """Requests to write beyond the first of their key: each would have been a second effect without it."""
    in_doubt: int
    unchanged_or_in_doubt: int
    """Judged runs whose verdict is as recorded, or that are in doubt and say so."""
    delivered_faults: dict[str, int]
    """By kind, as the database counted them."""
    faults_of_writes: dict[str, int]
    """Those of writes: before the effect, or after it."""
    journaled_faults: dict[str, int]
    """Failed attempts that the journal shows, by their kind (from the store)."""
    unjournaled_faults: int
    """Delivered faults that it does not show. A worker that is killed may take the last one with it."""
    statuses: dict[str, int]
    events: int
    chain_verified: bool
    effects: int
    model_turns: int
    seconds: float
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Killer:
    """Decides when to kill: spread over all model turns, whatever the machine's speed."""

    wanted: int
    turns: int
    dice: random.Random
    kills: list[audit.Kill] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return len(self.kills) >= self.wanted

    def next_trap(self, turns_done: int) -> JsonObject:
        """When and where: around an even spacing of the turns that are left."""
        left, wanted = self.turns - turns_done, self.wanted - len(self.kills)
        spacing = left / (wanted + 1)
        moment = self.dice.choice(MOMENTS)
        waits = moment != "any" and self.dice.random() < AT_A_WRITE
        after = min(round(self.dice.uniform(0, (1 if waits else 2) * spacing)), left - 2 * wanted)
        return {
            "op": "arm",
            "after": max(1, after),  # early enough that the kills which are still wanted find turns to come at
            "moment": moment,
            "write_within": round(spacing) if waits else 0,
        }


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """One set of recordings, the processes that rerun it, and where they meet."""

    options: argparse.Namespace
    folder: Path
    recordings: Sequence[Recording]
    killer: Killer

    @property
    def socket(self) -> Path:
        return self.folder / "database.sock"

    @property
    def report(self) -> Path:
        return self.folder / "report.json"

    @property
    def store(self) -> str:
        return self.options.store or str(self.folder / "holdfast.db")

    def run(self) -> Figures:
        started = time.monotonic()
        with running_database(self.socket, self.options.data / DATABASE_FILE):
            fault_plan: JsonObject = {"probability": self.options.faults, "seed": self.options.seed}
            fault_plan["kinds"] = list(self.options.kinds)
            ask_now(self.socket, {"op": "faults", **fault_plan})
            while not self._worker_ended():
                pass
            report = msgspec.json.decode(self.report.read_bytes(), type=Report)
            return self._figures(report, self._counted(), time.monotonic() - started)

    def _worker_ended(self) -> bool:
        """Run a worker until it ends (true) or was killed (false)."""
        with self._worker() as worker:
            if not self.killer.is_done:
                self._wait_to_kill(worker)
                if worker.poll() is None:
                    worker.send_signal(signal.SIGKILL)
            if worker.wait(WORKER_LIMIT_S) == -signal.SIGKILL:
                self._note_kill()
                return False
            if worker.returncode != 0:
                raise SystemExit(f"the worker failed with status {worker.returncode}; see above")
            return True

    @contextmanager
    def _worker(self) -> Iterator[subprocess.Popen[bytes]]:
        options = self.options
        at_once = max(1, min(MOST_AT_ONCE, self.killer.turns // (2 * max(1, self.killer.wanted))))
        command = [sys.executable, "-m", "retail_desk.worker", "--data", str(options.data.resolve())]
        command += ["--model", options.model, "--socket", str(self.socket), "--store", self.store]
        command += ["--first", str(len(self.recordings)), "--at-once", str(at_once), "--report", str(self.report)]
        worker = subprocess.Popen(command, cwd=Path(__file__).resolve().parent.parent)
        try:
            yield worker
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()

    # -- kills -------------------------------------------------------

    def _wait_to_kill(self, worker: subprocess.Popen[bytes]) -> None:
        """Until the moment of the next kill has come, or the worker has ended."""
        # A kill while the worker starts comes after some time, or at the trap like the others if the worker was faster.
        at_start = self.killer.dice.random() < KILLED_AT_START
        limit = time.monotonic() + (self.killer.dice.uniform(0, START_S) if at_start else WORKER_LIMIT_S)
        trap = self.killer.next_trap(sum(self._counted().turns.values()))
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as connection:
            connection.connect(str(self.socket))
            connection.sendall(json.dumps(trap).encode() + b"\n")
            while worker.poll() is None and time.monotonic() < limit:
                if select.select([connection], [], [], 0.05)[0]:
                    time.sleep(self.killer.dice.uniform(0, MOST_DELAY_S))
                    return

    def _note_kill(self) -> None:
        trails = self._counted().trails
        durable = anyio.run(self._durable_steps)
        lengths = {session: len(trail) for session, trail in trails.items()}
        self.killer.kills.append(audit.Kill(trail_lengths=lengths, durable=durable))
        ask_now(self.socket, {"op": "release"})

    async def _durable_steps(self) -> dict[str, frozenset[Step]]:
        """Which steps of which runs have an outcome in the store now, while no worker runs."""
        recorded = {recording.session: recording for recording in self.recordings}
        durable: dict[str, frozenset[Step]] = {}
        async with hf.open(self.store, worker=False) as app:
            for info in await app.runs(limit=len(recorded)):
                kinds = [event.kind for event in await app.events(info.run)]
                outcomes = [kind for kind in kinds if kind in audit.OUTCOMES]
                durable[info.run] = audit.first_steps(len(outcomes), recorded[info.run])
        return durable

    # -- figures -----------------------------------------------------

    def _counted(self) -> audit.Counted:
        return msgspec.convert(ask_now(self.socket, {"op": "report"}), audit.Counted)

    def _has_recorded_verdict(self, recording: Recording) -> bool:
        state = ask_now(self.socket, {"op": "state", "session": recording.session})
        base = load_database(self.options.data / DATABASE_FILE)
        return judge(base, recording, str(state["digest"])) is recording.verdict

    def _figures(self, report: Report, counted: audit.Counted, seconds: float) -> Figures:
        judged = [recording for recording in self.recordings if recording.verdict is not None]
        same = {recording.session for recording in judged if self._has_recorded_verdict(recording)}
        doubtful = {session for session, status in report.statuses.items() if status == "in_doubt"}
        attempts = report.failed_attempts.values()
        results = [audit.compare_results(counted, recording) for recording in self.recordings]
        marks = [mark for trail in counted.trails.values() for mark in trail]
        return Figures(
            runs=len(self.recordings),
            tool_calls=sum(len(recording.results) for recording in self.recordings),
            identical_results=sum(result.identical for result in results),
            errors_in_other_words=sum(result.errors_in_other_words for result in results),
            verdicts=len(judged),
            identical_verdicts=len(same),
            kills=len(self.killer.kills),
            resumed=sum(mark.kind == "resumed" for mark in marks),
            duplicated_effects=audit.duplicated_effects(counted, self.recordings),
            lost_effects=audit.lost_effects(counted, self.recordings),
            redone_steps=audit.redone_steps(counted, self.recordings, self.killer.kills),
            repeated_writes=sum(decision.requests - 1 for decision in counted.decisions.values()),
            in_doubt=len(doubtful),
            unchanged_or_in_doubt=sum(r.session in same | doubtful for r in judged),
            delivered_faults=_counts(fault.kind for fault in counted.faults),
            faults_of_writes=_counts(fault.when for fault in counted.faults if fault.tool in WRITES),
            journaled_faults=_counts(kind for failed in attempts for kind, n in failed.items() for _ in range(n)),
            unjournaled_faults=audit.unjournaled_faults(
                counted, {s: sum(f.values()) for s, f in report.failed_attempts.items()}
            ),
            statuses=_counts(report.statuses.values()),
            events=report.events,
            chain_verified=report.chain_verified,
            effects=len(counted.effects),
            model_turns=sum(len(recording.replies) for recording in self.recordings),
            seconds=round(seconds, 2),
            errors=report.errors,
        )


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def is_as_recorded(figures: Figures) -> bool:
    """Nothing was done twice, lost or redone; each verdict is the recorded one, or the run is in doubt."""
    return (
        figures.unchanged_or_in_doubt == figures.verdicts
        and figures.duplicated_effects == figures.lost_effects == figures.redone_steps == 0
        and (figures.unjournaled_faults == 0 or figures.kills > 0)
        and figures.chain_verified
    )


def rerun(options: argparse.Namespace) -> Figures:
    """Do what the options say, in a folder that is gone afterwards."""
    recordings = load(options.data / RECORDINGS.format(model=options.model))[: options.first]
    turns = sum(len(recording.replies) for recording in recordings)
    killer = Killer(wanted=options.kills, turns=turns, dice=random.Random(options.seed))
    folder = Path(tempfile.mkdtemp(prefix="retail-desk-"))
    try:
        return Rerun(options=options, folder=folder, recordings=recordings, killer=killer).run()
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Rerun recorded customer-service conversations.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the recorded data")
    parser.add_argument("--model", default="gpt-4.1", help="whose recordings (default: gpt-4.1)")
    parser.add_argument("--kills", type=int, default=0, help="kill the worker so often, spread over the set")
    parser.add_argument("--faults", type=float, default=0.0, help="probability that an attempt fails")
    parser.add_argument("--kinds", nargs="+", default=DEFAULT_FAULTS, choices=FAULT_KINDS, help="of faults")
    parser.add_argument("--first", type=int, help="only so many conversations (default: all)")
    parser.add_argument("--seed", type=int, default=1, help="of moments and faults")
    parser.add_argument("--store", default="", help="keep the store in this new file (default: none is kept)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    figures = rerun(options)
    if options.json:
        print(json.dumps(asdict(figures)))
    else:
        for name, value in asdict(figures).items():
            print(f"{name:24} {value}")
    return 0 if is_as_recorded(figures) and figures.kills >= options.kills else 1


if __name__ == "__main__":
    sys.exit(main())
