"""A cgroup for each step where the machine has one to give: limits, what it took, its end [SBX-13].

Both versions are served, also side by side (a controller lives in exactly one hierarchy). A step's
cgroup is made below the builder's own one, so that whatever limits the builder limits its steps.

A step is cloned into its cgroup of version 2; in version 1 the child moves itself by ``tasks``: one
thread moving itself is the one case where the kernel waits for nobody.
"""

from __future__ import annotations

import errno
import os

from pybuild.executor.zygote import limits as rules
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.executor.zygote.hierarchies import PREFIX, Hierarchy, hierarchies, read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.steps.spec import StepLimits


class Leaf:
    """The cgroups of one step: one directory in each hierarchy that it needs."""

    def __init__(self) -> None:
        self.places: list[tuple[Hierarchy, str]] = []
        self.made: list[str] = []  # parents that were asked for and are ours
        self.warnings: list[str] = []
        self.pids = 0  # a bound for each user of it, where nobody counts them all (*has_pids*)
        self.has_pids = False
        self.into_fd = -1

    def join(self) -> None:
        """Move this process, which has one thread, into the cgroups of version 1."""
        for hierarchy, path in self.places:
            if hierarchy.version == 1:
                write(path + "/tasks", "0")

    def join_all(self) -> None:
        """Move this process into all of its cgroups: it was not cloned into any."""
        self.join()
        for hierarchy, path in self.places:
            if hierarchy.version == 2:
                write(path + "/cgroup.procs", "0")

    def freezer(self) -> tuple[str, str, str] | None:
        """Return the file that freezes its processes, and the words that do and undo it."""
        for hierarchy, path in self.places:
            if hierarchy.version == 2 and os.path.exists(path + "/cgroup.freeze"):
                return path + "/cgroup.freeze", "1", "0"
            if rules.FREEZER in hierarchy.controllers:
                return path + "/freezer.state", "FROZEN", "THAWED"
        return None

    def freeze(self, frozen: bool) -> bool:
        """Freeze its processes or let them go on, as the kernel gets to it; False: there is no freezer.

        Raises:
            OSError: the kernel refuses.
        """
        known = self.freezer()
        if known is None:
            return False
        file, stop, go_on = known
        write(file, stop if frozen else go_on)
        return True

    def is_frozen(self) -> bool:
        """Whether all of its processes stand still."""
        known = self.freezer()
        if known is None:
            return False
        if known[0].endswith("/cgroup.freeze"):
            return _field(os.path.dirname(known[0]) + "/cgroup.events", b"frozen") == 1
        return read(known[0]).strip() == known[1]

    def limit(self, limits: StepLimits) -> list[str]:
        """Give its processes other limits, those that are not 0; return those that cannot be had.

        Raises:
            Fault: user; the kernel refuses a value.
        """
        self.warnings.clear()
        for controller in rules.controllers(limits):
            for hierarchy, path in self.places:
                if controller in hierarchy.controllers:
                    _set_all(self, path, rules.files(controller, hierarchy.version, limits))
                    break
            else:
                self.warnings += [
                    f"no {controller} cgroup here, so {flag} is not enforced (see pybuild doctor)"
                    for flag in rules.flags(controller, limits)
                ]
        return list(self.warnings)

    def usage(self) -> tuple[int, int, bool]:
        """Return the peak of memory in bytes, -1: unknown; OOM kills, -1; whether pids ran out."""
        peak, kills, pids_hit = -1, -1, False
        for hierarchy, path in self.places:
            if rules.MEMORY in hierarchy.controllers:
                old = hierarchy.version == 1
                peak = _number(path + ("/memory.max_usage_in_bytes" if old else "/memory.peak"))
                events = path + ("/memory.oom_control" if old else "/memory.events")
                kills = _field(events, b"oom_kill")
            if rules.PIDS in hierarchy.controllers:
                pids_hit = _field(path + "/pids.events", b"max") > 0
        return peak, kills, pids_hit

    def remove(self) -> bool:
        """Remove what `make` made; False: the kernel still counts somebody there, ask again."""
        if self.into_fd >= 0:
            os.close(self.into_fd)
            self.into_fd = -1
        while self.places:
            if not _remove(self.places[-1][1]):
                return False
            self.places.pop()
        for path in reversed(self.made):
            try:
                os.rmdir(path)
            except FileNotFoundError:
                pass  # Who had it, too, was faster.
            except OSError:
                break  # Another step uses the parent: whoever comes last removes it.
            _parents.discard(path)
        return True


_TRIES = 10
_default_pids = 0
_parents: set[str] = set()
"""Those that a step of ours has made: a later one may be the last to leave it."""


def make(limits: StepLimits, name: str, *, changes: bool = False) -> Leaf:
    """Make the cgroups for a step; without a hierarchy for it, say which limits are lost.

    Args:
        changes: there is to be one wherever its processes could be frozen, or get a limit later.

    Raises:
        Fault: user; the kernel refuses a limit's value.
        OSError: a cgroup that should be possible is not.
    """
    leaf = Leaf()
    # What bounds each user of a step is no place for a limit that is asked for: it counts the
    # processes of steps that run beside this one, too.
    leaf.pids = max(limits.pids, default_pids())
    bounded = limits if limits.pids else limits._replace(pids=leaf.pids)
    usable = [h for h in hierarchies() if h.controllers and not h.problem]
    try:
        for controller in rules.controllers(bounded):
            hierarchy = next((h for h in usable if controller in h.controllers), None)
            path = None if hierarchy is None else _place(leaf, hierarchy, limits, name)
            if hierarchy is None or path is None:
                unenforced = rules.flags(controller, limits)
                if unenforced:
                    leaf.warnings.append(
                        f"no {controller} cgroup here, so {_join(unenforced)} "
                        f"{'is' if len(unenforced) == 1 else 'are'} not enforced (see pybuild doctor)"
                    )
                continue
            if controller == rules.CPUSET and hierarchy.version == 1:
                _inherit_cpuset(path)
            leaf.has_pids = leaf.has_pids or controller == rules.PIDS
            _set_all(leaf, path, rules.files(controller, hierarchy.version, bounded))
            if hierarchy.version == 2 and leaf.into_fd < 0:
                leaf.into_fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for hierarchy in usable if changes else ():
            known = len(leaf.places)
            path = _place(leaf, hierarchy, limits, name)
            is_new = path is not None and len(leaf.places) > known
            if is_new and rules.CPUSET in hierarchy.controllers and hierarchy.version == 1:
                _inherit_cpuset(str(path))
    except BaseException:
        leaf.remove()
        raise
    return leaf


def _place(leaf: Leaf, hierarchy: Hierarchy, limits: StepLimits, name: str) -> str | None:
    """Return the step's directory in a hierarchy, making it; None: it may not be made."""
    for known, path in leaf.places:
        if known is hierarchy:
            return path
    for _ in range(_TRIES):
        try:
            return _make_place(leaf, hierarchy, limits, name)
        except FileNotFoundError:
            continue  # Another's last step left a parent of ours while we were in it.
    return _make_place(leaf, hierarchy, limits, name)


def _make_place(leaf: Leaf, hierarchy: Hierarchy, limits: StepLimits, name: str) -> str | None:
    home = hierarchy.home
    if limits.parent:
        parts = [part for part in limits.parent.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise Fault(USER, f'cgroup parent "{limits.parent}" must not contain ".."')
        home = hierarchy.top if limits.parent.startswith("/") else home
        for part in parts:
            home += "/" + part
            if not _mkdir(leaf, home, hierarchy, keep=True):
                return None
    path = f"{home}/{PREFIX}{name}"
    if not _mkdir(leaf, path, hierarchy, keep=False):
        return None
    leaf.places.append((hierarchy, path))
    return path


def _mkdir(leaf: Leaf, path: str, hierarchy: Hierarchy, *, keep: bool) -> bool:
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise Fault(USER, f"cgroup parent: {path} is a file of the kernel") from None
        if keep and path in _parents and path not in leaf.made:
            leaf.made.append(path)
        return True
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENAMETOOLONG):
            raise Fault(USER, f"cgroup parent: {path}: {error.strerror}") from error
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EAGAIN, errno.ENOSPC):
            raise
        if not leaf.made:
            hierarchy.problem = f"{path}: {error.strerror}"
        return False
    if keep:
        if path not in leaf.made:
            leaf.made.append(path)
        _parents.add(path)
        if hierarchy.version == 2:
            for name in hierarchy.controllers:
                try:
                    write(path + "/cgroup.subtree_control", "+" + name)
                except OSError:
                    pass  # Its files will be missing below, and then that is said.
        elif rules.CPUSET in hierarchy.controllers:
            _inherit_cpuset(path)
    return True


def _inherit_cpuset(path: str) -> None:
    for file in ("/cpuset.cpus", "/cpuset.mems"):
        if not read(path + file).strip():
            write(path + file, read(os.path.dirname(path) + file).strip())


def _set_all(leaf: Leaf, place: str, files: list[tuple[str, str, str]]) -> None:
    """Write limits; one that the kernel takes only after another, as it compares both, is tried again behind it."""
    again: list[tuple[str, str, str]] = []
    for file, text, flag in files:
        try:
            _set(leaf, f"{place}/{file}", text, flag)
        except Fault:
            again.append((file, text, flag))
    for file, text, flag in again:
        _set(leaf, f"{place}/{file}", text, flag)


def _set(leaf: Leaf, path: str, text: str, flag: str) -> None:
    try:
        write(path, text)
    except FileNotFoundError:
        if flag:
            what = f"it has no {path.split('/')[-1]}"
            leaf.warnings.append(f"this kernel cannot enforce {flag}: {what}")
    except OSError as error:
        if not flag:
            return
        if error.errno in (errno.EACCES, errno.EPERM):
            leaf.warnings.append(f"{flag}={text} is not enforced: {path}: {error.strerror}")
            return
        raise Fault(
            USER,
            f"invalid {flag}: {text}: {(error.strerror or '').lower()}",
            ("the limits of the builder's own cgroup bound those of steps",)
            if error.errno in (errno.EINVAL, errno.ERANGE, errno.ENODEV, errno.EBUSY)
            else (),
        ) from error


def _remove(path: str) -> bool:
    """Remove a cgroup and those that were made inside it; False: somebody is still in one."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        try:
            with os.scandir(path) as entries:
                inner = [entry.path for entry in entries if entry.is_dir()]
        except OSError:
            return False
        return bool(inner) and all(map(_remove, inner)) and _remove(path)
    return True


def default_pids() -> int:
    """Return the limit of processes for a step that has none of its own."""
    global _default_pids
    if not _default_pids:
        _default_pids = rules.default_pids(_number("/proc/sys/kernel/threads-max"))
    return _default_pids


def _join(names: list[str]) -> str:
    return " and ".join(names)


def _number(path: str) -> int:
    try:
        return int(_short(path))
    except (OSError, ValueError):
        return -1


def _field(path: str, name: bytes) -> int:
    try:
        for line in _short(path).splitlines():
            words = line.split()
            if len(words) == 2 and words[0] == name:
                return int(words[1])
    except (OSError, ValueError):
        pass
    return -1


def _short(path: str, most: int = 4096) -> bytes:
    """Return the text of a file of the kernel; `open` makes six calls of the three it takes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, most)
    finally:
        os.close(fd)


def oom_kills() -> int:
    """Return how many processes of the machine were killed for want of memory; -1: not known."""
    try:
        data = _short("/proc/vmstat", 1 << 16)
    except OSError:
        return -1
    at = data.find(b"\noom_kill ")
    return int(data[at + 10 : data.index(b"\n", at + 1)]) if at >= 0 else -1
