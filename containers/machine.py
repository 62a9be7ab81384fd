"""The machine and the store, by docker's names for their facts."""

from __future__ import annotations

import os
import platform
from typing import Any

from pybuild.cache.store import Store
from pybuild.containers.containers import Containers
from pybuild.engine.host import SystemClock, native_platform
from pybuild.model.package import VERSION


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "Linux"


def machine_facts(root: str) -> dict[str, Any]:
    """Return the facts about this machine and the store in *root*."""
    machine, images, containers = os.uname(), 0, 0
    if os.path.isdir(root):
        with Store.open(root, SystemClock(), to_read=True) as store:
            images = len(store.images.list())
            containers = len(Containers(store).list())
    return {
        "Architecture": machine.machine,
        "Containers": containers,
        "DockerRootDir": root,
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
