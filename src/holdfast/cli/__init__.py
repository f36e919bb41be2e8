"""The command line: `holdfast`. One thin file per command; what they do is done by `holdfast.runtime` and `holdfast.journal`.

    program.py   the commands together, and `holdfast --help`     options.py  what commands have in common
    exits.py     exit codes, and which error means which          locate.py   which store, and that it is there
    screen.py    output: text for people, JSON for programs       words.py    recorded values as harmless text
    asked.py     a question that waits for a person               timeline.py an event as lines of text

Importing this package loads neither typer nor rich.
"""


def main() -> None:
    """Run the command that the arguments of the process name; ends with `SystemExit` (codes: `holdfast --help`)."""
    from .program import program

    program()


__all__ = ["main"]
