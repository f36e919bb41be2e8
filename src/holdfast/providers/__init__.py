"""The model boundary: one small protocol, and the models that implement it.

`HostedModel` is in `holdfast.providers.hosted` and needs the extra `models`; `resolve` gets at it by name.
Importing this package imports no SDK and no price list.
"""

from ._protocol import Model, Secret
from ._resolve import resolve
from .prices import cost_microusd
from .recorded import RecordedModel

__all__ = ["Model", "RecordedModel", "Secret", "cost_microusd", "resolve"]
