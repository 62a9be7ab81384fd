"""Commands with ``-H`` about containers, images, networks and volumes: an engine does them, we print as if it were here."""

from __future__ import annotations

import sys

from pybuild.client.docker.commands import Acted, Described, Listed, ToPrune, outcome
from pybuild.commandline.parser import Parsed
from pybuild.commands.several import confirmed, for_each, show_documents, show_removed
from pybuild.model.listing import list_text


def main(parsed: Parsed, name: str) -> int:
    """Have the command *name* done, and print what came of it."""
    match outcome(parsed, name):
        case Listed() as listed:
            return _show(parsed, listed)
        case Described(look):
            return show_documents(parsed.one("format"), parsed.positionals, look)
        case Acted(act):
            return for_each(parsed.positionals, act)
        case ToPrune(title, what, work):
            return show_removed(title, *work()) if confirmed(parsed, what) else 0
        case str() as text:
            sys.stdout.write(text)
            return 0
        case status:
            return status


def _show(parsed: Parsed, listed: Listed) -> int:
    form = parsed.one("format")
    if parsed.flag("quiet") and not form:
        field = "ID" if "ID" in listed.titles else "Name"
        names = dict.fromkeys(row[field] for row in listed.rows)
        sys.stdout.write("".join(f"{one}\n" for one in names))
    else:
        sys.stdout.write(list_text(form, listed.rows, listed.titles, listed.shown))
    return 0
