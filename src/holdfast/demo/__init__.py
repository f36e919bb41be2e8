"""The order desk: a small application on Holdfast, run by `holdfast demo`.

Tarrow & Quill, an invented wholesaler of rope and rigging, gets its orders by e-mail. An agent reads the
mail and drafts; what is sent to the order system is checked against the firm's own registers first.

    inbox.py         the mails                        records.py    catalogue, customers, last week's orders
    desk.py          the workflow: read this first    checks.py     what makes an order of a draft
    order_system.py  a process that counts effects    orders.py     its client
    brain.py         the scripted model               truth.py      what should happen, hidden from the desk
    worker.py        a worker process                 play.py       the demo: start, kill, resume, count, tell
"""

from __future__ import annotations

from pathlib import Path


def run_demo(*, runs: int | None, seed: int, kill: bool, store: Path | None, as_json: bool) -> int:
    """Run the order desk over its inbox and print what happened; returns the exit code.

    Args:
        runs: How many mails to handle; None: the whole inbox. More than the inbox holds are copies of it.
        seed: Decides which mails a small demo takes and where model and order system go wrong.
        kill: SIGKILL the worker process in the middle and let another resume.
        store: The journal to use, continued when it exists; None: a new file in a temporary folder.
        as_json: Print one JSON object instead of tables and a progress display.
    Returns: 0, or 1 when a promise was broken (an effect doubled or lost, an injection that got through,
        a chain that does not verify).
    """
    from holdfast.demo import play  # the demo is not paid for by those who only import its data

    return play.play(runs=runs, seed=seed, kill=kill, store=store, as_json=as_json)


__all__ = ["run_demo"]
