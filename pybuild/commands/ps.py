"""``pybuild ps`` and ``port``: containers as a table, for programs, or by a template; their ports."""

from __future__ import annotations

import os
import sys

from pybuild.commands.localstore import open_store, with_store
from pybuild.containers.containers import Containers
from pybuild.containers.listing import rows_of, shown_ports
from pybuild.model.columns import CONTAINERS, CONTAINERS_SHOWN
from pybuild.model.errors import UsageError, UserError
from pybuild.model.listing import list_text
from pybuild.networks.records import NetworkFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pybuild.cache.store import Store
    from pybuild.commandline.parser import Parsed


def ps(parsed: Parsed) -> int:
    """List containers, the newest first: those that run, or all."""
    form = parsed.one("format")
    sized = parsed.flag("size") or (".Size" in form and not parsed.flag("quiet"))
    last = _last(parsed)

    def rows(store: Store) -> list[dict[str, Any]]:
        return rows_of(
            store,
            parsed.many("filter"),
            all=parsed.flag("all"),
            last=last,
            sized=sized,
            whole=parsed.flag("no-trunc"),
        )

    if sized:  # what a container wrote may be of all ids, and needs a worker to look at
        shown_rows = with_store(parsed, rows, to_read=True)
    else:
        with open_store(parsed, to_read=True) as store:
            shown_rows = rows(store)
    if parsed.flag("quiet") and not form:
        sys.stdout.write("".join(f"{row['ID']}\n" for row in shown_rows))
        return 0
    shown = [*CONTAINERS_SHOWN, *(["Size"] if parsed.flag("size") else [])]
    sys.stdout.write(list_text(form, shown_rows, CONTAINERS, shown))
    return 0


def port(parsed: Parsed) -> int:
    """Show where the ports of a container are published."""
    name, *given = parsed.positionals
    with open_store(parsed, to_read=True) as store:
        container = Containers(store).find(name)
        places = NetworkFiles(os.path.join(store.root, "networks")).places(container.config.id)
    published = [one for one in shown_ports(container, places) if one.address]
    if not given:
        sys.stdout.write("".join(f"{one.key} -> {one.place}\n" for one in published))
        return 0
    number, _, protocol = given[0].partition("/")
    bound = [one.place for one in published if one.key == f"{number}/{protocol or 'tcp'}"]
    if not bound:
        raise UserError(
            f"no public port '{given[0]}' published for {name}",
            hints=[f"pybuild port {name} lists what is published"],
        )
    sys.stdout.write("".join(f"{place}\n" for place in bound))
    return 0


def _last(parsed: Parsed) -> int:
    """Return how many of the newest are to be shown; 0 or less: all.

    Raises:
        UsageError: it is no number.
    """
    if parsed.flag("latest"):
        return 1
    text = parsed.one("last", "-1")
    if not text.removeprefix("-").isdecimal() or len(text) > 9:
        raise UsageError(f'invalid argument "{text}" for "-n, --last" flag: expected a number')
    return int(text)
