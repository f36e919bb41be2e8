"""What tests of agents need, for users too: models that follow a script."""

from .scripted import ScriptedModel

__all__ = ["ScriptedModel"]
