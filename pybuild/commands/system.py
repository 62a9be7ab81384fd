"""``pybuild system df`` and ``pybuild info``."""

from __future__ import annotations

import sys

from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import with_store
from pybuild.containers.diskusage import disk_usage
from pybuild.containers.machine import machine_facts
from pybuild.engine.settings import load_settings
from pybuild.model.amounts import human_bytes
from pybuild.model.gotemplate import go_json, rendered
from pybuild.model.listing import list_text

_TITLES = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}


def df(parsed: Parsed) -> int:
    """Sum up what `du` lists, by its kinds; what a living process needs is *active*."""
    rows = with_store(parsed, disk_usage, to_read=True)
    exact = ({"type": row["Type"]} for row in rows)
    sys.stdout.write(list_text(parsed.one("format"), rows, _TITLES, list(_TITLES), exact))
    return 0


def info(parsed: Parsed) -> int:
    """Show facts by docker's names for them."""
    settings = load_settings(parsed.one("config"), parsed.one("root"))
    facts = machine_facts(settings.root)
    form = parsed.one("format")
    if form:
        text = go_json(facts) if form == "json" else rendered(form, facts)
        sys.stdout.write(f"{text}\n")
        return 0
    shown = {**facts, "MemTotal": human_bytes(facts["MemTotal"])}
    sys.stdout.write("".join(f"{_words(key)}: {value}\n" for key, value in shown.items()))
    sys.stdout.write('"pybuild doctor" shows what this machine offers to steps.\n')
    return 0


def _words(name: str) -> str:
    spelled = {"DockerRootDir": "Root Dir", "MemTotal": "Total Memory", "NCPU": "CPUs"}
    text = spelled.get(name, name).replace("OSType", "OS Type")
    return "".join(
        f" {c}" if c.isupper() and i and text[i - 1].islower() else c for i, c in enumerate(text)
    )
