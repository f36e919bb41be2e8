"""Workflows, steps, the effect ledger, waits, resume: deciding and acting on the journal."""

from .app import App, open, run_sync
from .compose import first, parallel, timeout
from .endorse import Validator, endorse, record, validator
from .handle import Run, RunInfo
from .steps import Step, step
from .values import now, patched, random, recorded, uuid
from .waits import Decision, approval, reply, signal, sleep, sleep_until, subrun
from .workflow import REGISTRY, Registry, Workflow, workflow

__all__ = [
    "REGISTRY", "App", "Decision", "Registry", "Run", "RunInfo", "Step", "Validator", "Workflow", "approval", "endorse", "first",
    "now", "open", "parallel", "patched", "random", "record", "recorded", "reply", "run_sync", "signal", "sleep", "sleep_until",
    "step", "subrun", "timeout", "uuid", "validator", "workflow",
]  # fmt: skip
