"""What a model call cost. Prices are those that ship with `genai-prices`: nothing is fetched, so a price is
as old as that package.
"""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from typing import TYPE_CHECKING

from ..model import Usage

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

MICROUSD_PER_USD = 1_000_000


def cost_microusd(
    provider: str | None, model: str | None, usage: Usage | None, *, at: datetime | None = None
) -> int | None:
    """Return the price of one call in whole micro-dollars (millionths of a US dollar), rounded to the
    nearest.

    Args:
        provider: Who served it, as in `ModelReply.provider`. It is never guessed from the name of the model.
        model: The model that answered, as in `ModelReply.served_model`.
        usage: Token counts. `input_tokens` includes what was read from or written to a cache; cache counts
            that were not reported are priced as ordinary input.
        at: When it was served, for prices that changed or depend on the time of day; the default is now.
    Returns: `None` when the provider, the model, its price or a needed count is unknown: never 0 for unknown
        (law 10).
    """
    if not provider or not model or usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    from genai_prices import Usage as Tokens

    try:
        tokens = Tokens(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
        )
        price = _bundled_prices().calc(tokens, model, provider, None, at)
    except (LookupError, ValueError):  # not in the list, or counts that contradict each other
        return None
    return int((price.total_price * MICROUSD_PER_USD).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


@cache
def _bundled_prices() -> DataSnapshot:
    # Made here rather than taken from `get_snapshot`, which hands out whatever an updater put there in this
    # process.
    from genai_prices.data import providers
    from genai_prices.data_snapshot import DataSnapshot

    return DataSnapshot(providers=providers, from_auto_update=False)
