"""Where cgroups can be made: the mounted hierarchies, and our place in each [SBX-13].

In version 2 a cgroup with processes cannot hand controllers to children, and mostly the builder
sits in one; then the parent is tried, which belongs to us where systemd or somebody else has
delegated it.
"""

from __future__ import annotations

import os

from pybuild.executor.zygote import limits as rules

PREFIX = "pybuild-"
_STALE_SECONDS = 60
_CONTROLLERS = (rules.MEMORY, rules.CPU, rules.CPUSET, rules.PIDS, rules.FREEZER)


class Hierarchy:
    """One mounted tree of cgroups.

    Attributes:
        top: where it is mounted; *own*: this process's place in it, as a path.
        controllers: those that children of *home* can have; *home*: where steps' cgroups go.
        problem: why there are none.
    """

    def __init__(self, version: int, top: str, own: str, controllers: tuple[str, ...]) -> None:
        self.version = version
        self.top = top
        self.own = own
        self.home = own
        self.controllers = controllers
        self.problem = ""


_known: list[Hierarchy] | None = None


def hierarchies() -> list[Hierarchy]:
    """Return those that can hold steps' cgroups or would, were it not for their *problem*."""
    global _known
    if _known is None:
        import time

        try:
            own = read("/proc/self/cgroup")
            _known = usable(discover(own, read("/proc/self/mountinfo")))
        except OSError:
            _known = []
        for hierarchy in _known:
            if not hierarchy.problem:
                remove_stale(hierarchy.home, time.time())
    return _known


def discover(own: str, mountinfo: str) -> list[Hierarchy]:
    """Return the mounted hierarchies that have a controller of use, by what /proc says. Pure."""
    places: dict[str, str] = {}
    for line in own.splitlines():
        _, attached, path = line.split(":", 2)
        for name in attached.split(","):
            places[name] = path
    by_controllers: dict[tuple[str, ...], Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if len(tail) < 3 or len(fields) < 5 or tail[0] not in ("cgroup", "cgroup2"):
            continue
        options = tail[2].split(",")
        names = tuple(name for name in _CONTROLLERS if name in options)
        version = 2 if tail[0] == "cgroup2" else 1
        key = names if version == 1 else ("",)
        place = places.get(key[0]) if key else None
        if place is None or key in by_controllers:
            continue
        root, top = (_unescape(fields[3]), _unescape(fields[4]))
        inside = place[len(root.rstrip("/")) :] if (place + "/").startswith(root + "/") else ""
        inside = place if root == "/" else inside
        by_controllers[key] = Hierarchy(version, top, (top + inside).rstrip("/"), names)
    return list(by_controllers.values())


def usable(mounted: list[Hierarchy]) -> list[Hierarchy]:
    """Return the hierarchies with a controller, each with its home, or with the reason why there is none."""
    for hierarchy in mounted:
        if hierarchy.version == 2:
            _choose_home(hierarchy)
        elif not os.access(hierarchy.home, os.W_OK):
            hierarchy.problem = f"{hierarchy.home} is not writable"
    return [h for h in mounted if h.controllers or h.problem]


def _choose_home(hierarchy: Hierarchy) -> None:
    """Find where children can have controllers: our own cgroup, or the one above it."""
    homes = [hierarchy.own]
    if hierarchy.own != hierarchy.top:
        homes.append(os.path.dirname(hierarchy.own))
    best: tuple[str, ...] = ()
    for home in homes:
        try:
            offered = read(home + "/cgroup.controllers").split()
            enabled = read(home + "/cgroup.subtree_control").split()
        except OSError:
            continue
        if not offered:
            continue
        if not (os.access(home, os.W_OK) and os.access(home + "/cgroup.procs", os.W_OK)):
            hierarchy.problem = hierarchy.problem or f"{home} is not delegated to this user"
            continue
        for name in _CONTROLLERS:
            if name in offered and name not in enabled:
                try:
                    write(home + "/cgroup.subtree_control", "+" + name)
                    enabled.append(name)
                except OSError as error:
                    # EBUSY: it holds processes, ours among them.
                    hierarchy.problem = f"{home}: cannot enable {name}: {error.strerror}"
        here = tuple(name for name in _CONTROLLERS if name in enabled)
        if len(here) > len(best):
            hierarchy.home, best = home, here
    hierarchy.controllers = best
    if best:
        hierarchy.problem = ""


def remove_stale(home: str, now: float) -> None:
    """Remove what a zygote left that was killed: cgroups that are empty and not just made."""
    try:
        entries = list(os.scandir(home))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(PREFIX):
            try:
                if now - entry.stat().st_ctime > _STALE_SECONDS:
                    os.rmdir(entry.path)
            except OSError:
                continue


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _unescape(path: str) -> str:
    """Undo mountinfo's escapes."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path
