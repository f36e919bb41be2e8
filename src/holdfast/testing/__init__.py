"""What tests of agents need, for users too: models that follow a script, a clock that stands still, stores that fail, a system that
counts effects (`holdfast.testing.effects`), and a check that a workflow replays as it ran."""

from .clock import VirtualClock
from .determinism import Diverged, Replay, check_replay
from .faults import FaultyStore
from .scripted import ScriptedModel

__all__ = ["Diverged", "FaultyStore", "Replay", "ScriptedModel", "VirtualClock", "check_replay"]
