"""``pybuild stats``: how much of the machine containers take, as it changes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import open_store
from pybuild.containers.consumption import Consumption, consumption_row, measured
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.model.listing import list_text

_INTERVAL_S = 1.0
_CLEAR = "\x1b[2J\x1b[H"
_TITLES = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
    "Container": "CONTAINER",
}
_SHOWN = list(_TITLES)[:-1]


def stats(parsed: Parsed) -> int:
    """Show the table again and again, or once."""
    before: dict[str, Consumption] = {}
    warned = False
    with open_store(parsed) as store:
        containers = Containers(store)
        while True:
            looks = measured(containers, parsed.positionals, all=parsed.flag("all"))
            if before or not any(look.at for _, look in looks):
                if not warned and any(look.at and not look.counts for _, look in looks):
                    warned = True
                    sys.stderr.write(
                        "warning: there is no memory cgroup for some of these: their memory is that of "
                        "their processes, added up (see pybuild doctor)\n"
                    )
                _show(parsed, looks, before)
                if parsed.flag("no-stream"):
                    return 0
            before = {one.config.id: look for one, look in looks}
            time.sleep(_INTERVAL_S)


def _show(
    parsed: Parsed,
    looks: Sequence[tuple[Container, Consumption]],
    before: dict[str, Consumption],
) -> None:
    whole = parsed.flag("no-trunc")
    rows = [
        consumption_row(one, look, before.get(one.config.id), whole=whole) for one, look in looks
    ]
    if sys.stdout.isatty() and not parsed.flag("no-stream"):
        sys.stdout.write(_CLEAR)
    sys.stdout.write(list_text(parsed.one("format"), rows, _TITLES, _SHOWN))
    sys.stdout.flush()
