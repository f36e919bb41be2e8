"""Recorded values as text that can do no harm to a terminal. Pure.

What a run has recorded was written by models, mails and web pages. Here it loses everything that a terminal could take for a
command: control characters, escape sequences, and marks that turn the direction of text. Nothing is left out: each stands as an
escape that can be read. Text made here must be shown as `rich.text.Text`, never as markup.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"))


def safe(text: str) -> str:
    """One line of text, without anything that a terminal obeys."""
    return _UNSAFE.sub(_escape, text)


def safe_lines(text: str) -> list[str]:
    """The lines of a text, each safe."""
    return [safe(line) for line in text.split("\n")]


def to_json(value: Any, *, pretty: bool = False) -> str:  # Any: JSON
    """JSON text that is safe on a terminal too: what is unsafe stands inside strings, so it may be escaped there."""
    text = json.dumps(value, ensure_ascii=False, indent=2 if pretty else None)
    return _UNSAFE_IN_JSON.sub(_json_escape, text)


def brief(value: Any, limit: int) -> str:  # Any: JSON
    """A JSON value on one line, cut to about `limit` characters; how long it is, is said."""
    return shortened(to_json(value), limit)


def shortened(text: str, limit: int) -> str:
    """The beginning of a text on one safe line; how long it is, is said."""
    if len(text) <= limit:
        return safe(text)
    return f"{safe(text[: max(1, limit - 24)])}... ({len(text):,} characters)"


def moment(ns: int) -> str:
    """UTC time in ISO form with microseconds. A number that is no time stays a number."""
    try:
        at = _EPOCH + timedelta(microseconds=ns // 1000)
    except OverflowError:
        return f"{ns} ns"
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def clock_time(ns: int) -> str:
    """UTC date and time to the second, for people."""
    return moment(ns).partition(".")[0].replace("T", " ") + " UTC"


def duration(seconds: float) -> str:
    """A duration in the unit that fits it: "0.4 ms", "1.3 s", "2 min", "3 h", "5 d"."""
    size = abs(seconds)
    if size < 0.9995:
        return f"{seconds * 1e3:.1f} ms" if size < 0.01 else f"{seconds * 1e3:.0f} ms"
    if size < 60:
        return f"{seconds:.1f} s"
    for unit_s, unit in _UNITS:
        if size >= 2 * unit_s or unit == "min":
            return f"{seconds / unit_s:.0f} {unit}"
    raise AssertionError("unreachable")


def offset(seconds: float) -> str:
    """Time since the start of a run, in a column: "+0.012", "+4:05.0", "+27:14:05"."""
    sign = "-" if seconds < 0 else "+"
    seconds = abs(seconds)
    if seconds < 60:
        return f"{sign}{seconds:.3f}"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{sign}{int(minutes)}:{rest:04.1f}"
    hours, minutes = divmod(int(minutes), 60)
    return f"{sign}{hours}:{minutes:02d}:{int(rest):02d}"


def money(microusd: int) -> str:
    """Micro-dollars as dollars, with as many digits as matter."""
    return f"${microusd / 1e6:,.2f}" if microusd >= 1_000_000 else f"${microusd / 1e6:.6f}".rstrip("0").rstrip(".")


def count(number: int, one: str, many: str = "") -> str:
    """ "1 event", "1,200 events"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


_UNSAFE_IN_JSON: Final = re.compile(
    _UNSAFE.pattern.replace("\x00-\x1f", "")
)  # JSON has escaped those; newlines are layout


def _escape(found: re.Match[str]) -> str:
    char = found.group()
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
    code = ord(char)
    return named or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def _json_escape(found: re.Match[str]) -> str:
    return json.dumps(found.group())[1:-1] if ord(found.group()) > 0x7F else f"\\u{ord(found.group()):04x}"
