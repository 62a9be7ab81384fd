"""``pybuild system df`` and ``pybuild info``."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import with_store
from pybuild.containers.containers import Containers
from pybuild.containers.diskusage import disk_usage
from pybuild.engine.host import SystemClock, native_platform
from pybuild.engine.settings import load_settings
from pybuild.model.amounts import human_bytes
from pybuild.model.gotemplate import go_json, rendered
from pybuild.model.listing import show_list
from pybuild.model.package import VERSION

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
    show_list(parsed.one("format"), rows, _TITLES, list(_TITLES), exact)
    return 0


def info(parsed: Parsed) -> int:
    """Show facts by docker's names for them."""
    settings = load_settings(parsed.one("config"), parsed.one("root"))
    machine, images, containers = os.uname(), 0, 0
    if os.path.isdir(settings.root):
        with Store.open(settings.root, SystemClock(), to_read=True) as store:
            images = len(store.images.list())
            containers = len(Containers(store).list())
    facts: dict[str, Any] = {
        "Architecture": machine.machine,
        "Containers": containers,
        "DockerRootDir": settings.root,
        "Driver": "overlayfs",
        "Images": images,
        "KernelVersion": machine.release,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "NCPU": os.cpu_count() or 1,
        "Name": machine.nodename,
        "OSType": native_platform().os,
        "OperatingSystem": _operating_system(),
        "ServerVersion": VERSION,
    }
    form = parsed.one("format")
    if form:
        text = go_json(facts) if form == "json" else rendered(form, facts)
        sys.stdout.write(f"{text}\n")
        return 0
    shown = {**facts, "MemTotal": human_bytes(facts["MemTotal"])}
    sys.stdout.write("".join(f"{_words(key)}: {value}\n" for key, value in shown.items()))
    sys.stdout.write('"pybuild doctor" shows what this machine offers to steps.\n')
    return 0


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "Linux"


def _words(name: str) -> str:
    spelled = {"DockerRootDir": "Root Dir", "MemTotal": "Total Memory", "NCPU": "CPUs"}
    text = spelled.get(name, name).replace("OSType", "OS Type")
    return "".join(
        f" {c}" if c.isupper() and i and text[i - 1].islower() else c for i, c in enumerate(text)
    )
