"""What all engines are given to do: runs of sequential steps that each sleep and return about 1 KB of JSON.

The records differ from step to step and from run to run, as those of a business system do: repeated content would be an easier task
for whatever compresses or compares it.
"""

from __future__ import annotations

from typing import Any, Final

STEPS: Final = 10
SLEEP_S: Final = 0.010

_GOODS: Final = (
    "copper pipe 22 mm", "ball valve DN 20", "roof batten 24 x 48", "cement 25 kg", "flange gasket PN 16", "cable duct 40 x 60",
    "hex bolt M12 x 80", "mineral wool 140 mm", "junction box IP 65", "circulation pump 25-60", "drip tray", "thermostat head",
    "insulating tape", "mounting rail 2 m", "sealant, grey", "drain channel 1 m",
)  # fmt: skip
_REMARKS: Final = (
    "Deliver to the rear gate before 7:30; the front is closed for road works until further notice.",
    "The customer asks for the certificate of conformity with the goods, one copy for each batch.",
    "Partial delivery is welcome. Please announce the remaining quantity by mail two days ahead.",
    "Substitute articles only after consultation with the site manager, who can be reached in the morning.",
    "Unloading by crane is on site; no tail lift needed. Please do not stack the pallets.",
    "Prices as in the framework agreement of this year; the discount for pallets of one sort applies.",
    "Return of the empty drums with the next tour was agreed on the telephone with the dispatcher.",
    "Urgent: the fitters are waiting. If something is missing, send what is there and call back.",
)
_TOWNS: Final = ("Eastmoor", "Graufeld", "Lindwick", "Port Asher", "Sankt Velten", "Tornby", "Ullstead", "Westerlo")


def record(run: int, step: int) -> dict[str, Any]:  # Any: JSON, as users return it
    """The result of one step: an order confirmation of about 1 KB as JSON, the same whenever it is made for the same step."""
    n = (run * 2_654_435_761 + step * 40_503 + 12_345) & 0xFFFFFFFF
    lines = [
        {
            "position": position + 1,
            "article": f"{(n >> position) & 0xFFFFF:06d}-{position}",
            "text": _GOODS[(n >> (position * 3)) & 15],
            "quantity": 1 + ((n >> (position * 5)) & 63),
            "unit_price_cents": 150 + ((n >> (position * 2)) & 4095),
        }
        for position in range(5)
    ]
    return {
        "order": f"SO-{n:010d}",
        "run": run,
        "step": step,
        "customer": f"C-{n % 99_991:05d}",
        "ship_to": {"street": f"{1 + n % 211} Mill Lane", "town": _TOWNS[n & 7], "postcode": f"{10_000 + n % 89_999}"},
        "lines": lines,
        "remark": _REMARKS[(n >> 7) & 7],
        "delivery": _REMARKS[(n >> 11) & 7],
        "contact": f"{_TOWNS[(n >> 14) & 7]} branch, telephone 0{n % 8_999 + 1_000}-{n % 89_993 + 10_000}, weekdays 7 to 16",
        "accepted": True,
        "checksum": f"{n * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF:016x}",
    }
