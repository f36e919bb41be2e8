"""What the shop says no to."""

from __future__ import annotations


class ShopError(LookupError):
    """The shop refused a call, before any effect. Its message is what the caller reads after `Error: `."""
