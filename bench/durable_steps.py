"""The benchmark of the journal and the runtime: steps a second, latency, memory, resume, growth, audit, import.

    python bench/durable_steps.py [--json] [--quick] [--profile] [--dir FOLDER]

A run is 10 sequential steps; each sleeps 10 ms and returns a dict of about 1 KB that no other step returns; 1,000 runs at once. Default
settings, nothing switched off, the public API. Each measurement is a process of its own, and its store is verified afterwards:
without a sound store there is no figure. The floor and the product take turns (A B A B ...), so that both meet the same load.

`--quick`: everything but the peers in under 50 s. Without it the peers run once each, where pip can install them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import audit
import floor
import growth
import imports
import lone
import msgspec
import parked
import peers
import steps
from child import HERE, Failed, measure
from figures import Figure, Report, of
from machine import NoDisk, Others, describe, flush_ms
from spread import Spread
from workload import STEPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    runs: int = 1000
    pairs: int = 5
    lone_steps: int = 500
    parked: int = 10_000
    turns: tuple[int, int] = (10, 40)
    opens: int = 5
    imports: int = 7
    with_peers: bool = True
    with_split: bool = True  # the replay alone, without the approving


QUICK = Plan(pairs=3, lone_steps=200, opens=2, imports=5, with_peers=False, with_split=False)


@dataclass(slots=True, kw_only=True)
class Bench:
    """Measures one part after the other in `folder`. A part that fails leaves its reason in `failed` and no figure."""

    plan: Plan
    folder: Path
    say: Callable[[str], None]
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    peers: dict[str, float] = field(default_factory=dict)
    number: int = 0

    def run(self) -> Report:
        machine = describe(self.folder)
        flushed_ms = flush_ms(self.folder)
        parts = {
            "steps": self.side_by_side, "lone": self.alone, "parked": self.wait_and_resume, "growth": self.grow, "import": self.importing,
        }  # fmt: skip
        if self.plan.with_peers:
            parts["peers"] = self.measure_peers
        for name, part in parts.items():
            began = time.perf_counter()
            try:
                part()
            except Failed as failed:
                self.failed[name] = str(failed)
            self.say(f"{name}: {time.perf_counter() - began:.1f} s, load {os.getloadavg()[0]:.1f}")
        return Report(
            machine=machine, flush_ms=flushed_ms, figures=tuple(self.figures), peers=self.peers, notes=tuple(self.notes),
            failed=self.failed, skipped=self.skipped,
        )  # fmt: skip

    # -- parts --------------------------------------------------------------------------------------------------------

    def side_by_side(self) -> None:
        floors: list[floor.Measured] = []
        plain: list[steps.Measured] = []
        intent: list[steps.Measured] = []
        others: list[float] = []
        runs = ("--runs", self.plan.runs)
        for pair in range(self.plan.pairs):
            meanwhile = Others()
            with self.store() as path:
                floors.append(measure(floor.Measured, "floor.py", path, *runs))
            with self.store() as path:
                plain.append(measure(steps.Measured, "steps.py", path, *runs))
            with self.store() as path:
                intent.append(measure(steps.Measured, "steps.py", path, *runs, "--kind", "intent"))
            others.append(meanwhile.share())
            self.say(f"  pair {pair + 1}: floor {floors[-1].steps_per_s:,.0f}, steps {plain[-1].steps_per_s:,.0f}")
        both = list(zip(floors, plain, intent, strict=True))
        self.figures += [
            of("steps_per_s", Spread.of(p.steps_per_s for p in plain), "steps/s",
               f"{self.plan.runs:,} runs at once, {plain[0].events:,} events verified each time"),
            of("steps_per_s_with_intent", Spread.of(i.steps_per_s for i in intent), "steps/s",
               f"each step a keyed tool, its intent committed before it; {intent[0].events:,} events verified"),
            of("floor_steps_per_s", Spread.of(f.steps_per_s for f in floors), "steps/s", "one INSERT a step, group commit"),
            of("ratio_to_floor", Spread.of(p.steps_per_s / f.steps_per_s for f, p, _ in both), "", "pair by pair"),
            of("ratio_with_intent", Spread.of(i.steps_per_s / f.steps_per_s for f, _, i in both), "", "pair by pair"),
            of("cpu_us_per_step", Spread.of(p.cpu_us for p in plain), "us", "CPU time of the process a step"),
            of("loop_us_per_step", Spread.of(p.main_us for p in plain), "us", "of it, the event loop's thread"),
            of("floor_cpu_us_per_step", Spread.of(f.cpu_us for f in floors), "us", "the same of the floor"),
            of("others_cpu", Spread.of(others), "", "share of all cores that other processes used meanwhile: 0 is a quiet machine"),
            of("rss_mb", Spread.of(p.rss_mb for p in plain), "MB", "most resident, of a process that does nothing else"),
            of("rss_mb_with_intent", Spread.of(i.rss_mb for i in intent), "MB", "the same with intents"),
        ]  # fmt: skip

    def alone(self) -> None:
        with self.store() as path:
            found = measure(lone.Measured, "lone.py", path, "--steps", self.plan.lone_steps)
        self.figures += [
            of("lone_step_ms", Spread.of(found.intent_ms), "ms", "one run alone: what a keyed tool adds to its body, two commits"),
            of("lone_plain_step_ms", Spread.of(found.plain_ms), "ms", "the same of a plain step, one commit"),
            of("lone_flush_ms", Spread.of(found.flush_ms), "ms", "write and flush of 4 KiB then, median before and after"),
        ]  # fmt: skip

    def wait_and_resume(self) -> None:
        runs = self.plan.parked
        with self.store() as path:
            measure(parked.Parked, "parked.py", "park", path, "--runs", runs)
            approved = self.copy_of(path) if self.plan.with_split else None
            opened = Spread.of(self.opened(path).open_s for _ in range(self.plan.opens))
            resumed = measure(parked.Resumed, "parked.py", "resume", path, "--runs", runs)
            audited = self.audited(path)
        if resumed.redone:
            raise Failed(f"{resumed.redone} recorded steps ran again when the runs were resumed")
        scale = f"{runs:,} runs of {STEPS} steps"
        self.figures += [
            of(f"open_{runs}_s", opened, "s", f"{scale}, parked: open in a new process and look at one"),
            of(f"resume_{runs}_s", resumed.seconds, "s", "open, approve all, each replays and completes; nothing was done again"),
            of("resume_rss_mb", resumed.rss_mb, "MB", "most resident meanwhile"),
        ]  # fmt: skip
        if approved is not None:
            self.split(approved)
        self.figures += [
            of("verify_events_per_s", audited.events / audited.seconds, "events/s", f"{audited.events:,} events"),
            of("verify_adds_mb", audited.rss_peak_mb - audited.rss_before_mb, "MB", f"on top of {audited.rss_before_mb:.0f} MB"),
        ]  # fmt: skip

    def split(self, path: Path) -> None:
        """Approving and replaying apart from each other, on a copy of the store."""
        runs = self.plan.parked
        try:
            give_s = measure(float, "parked.py", "give", path, "--runs", runs)
            replayed = measure(parked.Resumed, "parked.py", "replay", path)
            self.audited(path)
        finally:
            shutil.rmtree(path.parent)
        if replayed.redone or replayed.runs != runs:
            raise Failed(f"{replayed.runs} of {runs} runs were replayed, {replayed.redone} steps were done again")
        self.figures += [
            of("approve_us", give_s / runs * 1e6, "us", "an approval, from a client"),
            of("replay_us_per_step", replayed.seconds / (runs * STEPS) * 1e6, "us", "claim, replay and end of a run, a step"),
        ]  # fmt: skip

    def audited(self, path: Path) -> audit.Measured:
        """Verified: no damage, and as many runs as were parked."""
        found = measure(audit.Measured, "audit.py", path)
        if found.runs != self.plan.parked:
            raise Failed(f"the store holds {found.runs} runs, not {self.plan.parked}")
        return found

    def opened(self, path: Path) -> parked.Opened:
        found = measure(parked.Opened, "parked.py", "open", path)
        if found.approvals != self.plan.parked:
            raise Failed(f"{found.approvals} runs wait, not {self.plan.parked}")
        return found

    def grow(self) -> None:
        ratios = {}
        few, many = self.plan.turns
        for model, options in (("scripted", ()), ("hosted", ("--hosted",))):
            found = []
            for turns in (few, many):
                with self.store() as path:
                    found.append(measure(growth.Measured, "growth.py", path, "--turns", turns, *options))
            ratios[model] = found[1].bytes_a_run / found[0].bytes_a_run
            self.notes.append(
                f"growth, {model} model: {found[0].bytes_a_run / 1024:,.1f} KiB a run of {few} turns, "
                f"{found[1].bytes_a_run / 1024:,.1f} KiB of {many} (pages of the file, {found[0].runs} runs each)"
            )
        worse = max(ratios, key=lambda model: ratios[model])
        self.figures += [
            of(f"growth_{many}_to_{few}", ratios[worse], "", f"stored bytes of an agent run; the larger: {worse} model"),
            of("growth_scripted", ratios["scripted"], "", "messages of about 1 KB, tool results of 1 KB"),
            of("growth_hosted", ratios["hosted"], "", "the same, with the bytes sent and received kept"),
        ]  # fmt: skip

    def importing(self) -> None:
        found = measure(imports.Measured, "imports.py", self.plan.imports)
        self.figures += [
            of("import_s", found.seconds, "s", f"{found.modules} modules; from outside: {', '.join(found.packages)}"),
            of("idle_rss_mb", found.rss_mb, "MB", "a process that imports holdfast and does nothing else"),
        ]  # fmt: skip
        if found.unwanted:
            raise Failed(f"import holdfast brings {', '.join(found.unwanted)}")

    def measure_peers(self) -> None:
        found = peers.measure(self.folder, runs=self.plan.runs)
        self.peers |= found.steps_per_s
        self.skipped |= found.skipped
        for peer in peers.PEERS:
            self.notes.append(f"{peer.name}: {peer.note}; {', '.join(peer.requirements)}")

    # -- stores -------------------------------------------------------------------------------------------------------

    @contextmanager
    def store(self) -> Iterator[Path]:
        """A path for a store, in a folder of its own that is gone afterwards."""
        self.number += 1
        with tempfile.TemporaryDirectory(prefix=f"{self.number}-", dir=self.folder) as folder:
            yield Path(folder) / "bench.db"

    def copy_of(self, path: Path) -> Path:
        """A copy of a closed store, in a folder of its own."""
        folder = Path(tempfile.mkdtemp(prefix="copy-", dir=self.folder))
        return Path(shutil.copy(path, folder / path.name))


def main() -> int:
    given = _arguments()
    folder = Path(tempfile.mkdtemp(dir=_made(given.dir)))
    try:
        if given.profile:
            return _profile(folder, given.kind)
        plan = QUICK if given.quick else Plan()
        bench = Bench(plan=plan, folder=folder, say=lambda line: print(line, file=sys.stderr, flush=True))
        report = bench.run()
    except NoDisk as refused:
        print(refused, file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(msgspec.json.encode(report.as_json()).decode() if given.json else report.as_text())
    return 1 if report.failed else 0


def _profile(folder: Path, kind: str) -> int:
    """Where the time of the event loop's thread goes; cProfile makes calls dearer than they are."""
    command = [sys.executable, str(HERE / "steps.py"), str(folder / "bench.db"), "--kind", kind, "--profile"]
    return subprocess.run(command, check=False).returncode


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--json", action="store_true", help="one object instead of a table")
    asked.add_argument("--quick", action="store_true", help="fewer repetitions and no peers: under 50 s")
    asked.add_argument(
        "--profile", action="store_true", help="no figures: the top of a profile of the event loop's thread"
    )
    asked.add_argument("--kind", choices=steps.EVENTS_A_RUN, default="plain", help="of step that is profiled")
    asked.add_argument(
        "--dir", type=Path, default=HERE / ".work", help="where the stores are made: a folder on a real disk"
    )
    return asked.parse_args()


if __name__ == "__main__":
    sys.exit(main())
