"""Stacks of deltas as one tree: overlay mounts through the descriptor API.

Everything that would make an upper directory useless as a layer is switched off by name, whatever
the module's defaults are: ``redirect_dir`` leaves empty directories that point elsewhere,
``metacopy`` files without data. ``volatile`` always, when something is written: without it the
unmount syncs the whole file system the upper lies on (12 to 90 ms a step, measured).
"""

from __future__ import annotations

import os

from pybuild.executor.zygote import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LOWERS = 500
"""The kernel's own limit (OVL_MAX_STACK)."""

# "nofollow" rather than "off", which still follows redirects where the module's defaults say so.
_OPTIONS = {"index": "off", "metacopy": "off", "redirect_dir": "nofollow", "xino": "off"}
_EINVAL = 22


def mount_overlay(
    target: str,
    lowers: Sequence[str],
    upper: str | None,
    work: str | None,
    *,
    userxattr: bool,
) -> None:
    """Mount *lowers* (base first) as one tree on the directory *target*.

    Without *upper* the tree is read-only. *work* must be an empty directory on the file system of
    *upper*, never used for a mount before. The caller's mount namespace must be private.

    Fewer than two lowers get an empty tree below them, on a tmpfs that *target* then hides: an
    overlay needs a lower, and a single delta must not be bound as it lies, because its whiteouts
    would then be seen as devices.
    """
    lowers = _once_each(lowers)
    if (upper is None) != (work is None):
        raise ValueError("upper and work go together")
    if len(lowers) < (1 if upper else 2):
        empty = tmpfs(size_bytes=4096, attributes=syscalls.MOUNT_ATTR_RDONLY)
        try:
            syscalls.move_mount(empty, syscalls.AT_FDCWD, target)
        finally:
            os.close(empty)
        if not lowers and upper is None:
            return
        lowers = [target, *lowers]
    plain = all(map(_goes_as_string, [*lowers, upper or "", work or ""]))
    mounted = _detached(lowers, upper, work, userxattr) if plain else None
    if mounted is None:
        mount_by_number(target, lowers, upper, work, userxattr)
        return
    try:
        syscalls.move_mount(mounted, syscalls.AT_FDCWD, target)
    finally:
        os.close(mounted)


def detached_overlay(lowers: Sequence[str], upper: str, work: str, *, userxattr: bool) -> int:
    """Return a tree like that of `mount_overlay`, at least one lower, as a mount descriptor.

    For kernels that take layers from detached mounts (`try_detached`), and names of a store.
    """
    mounted = _detached(_once_each(lowers), upper, work, userxattr)
    if mounted is None:
        raise OSError(_EINVAL, "overlay takes no layers one by one")
    return mounted


def try_detached(directory: int, lowers: Sequence[str]) -> None:
    """Try whether layers can be taken from a detached mount.

    Args:
        directory: of such a mount; *lowers*, two of them, are relative to it.

    Raises:
        OSError: they cannot, before Linux 6.15.
    """
    before = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.fchdir(directory)
        mounted = _detached(lowers, None, None, userxattr=False)
    finally:
        os.fchdir(before)
        os.close(before)
    if mounted is None:
        raise OSError(_EINVAL, "overlay takes no layers one by one")
    os.close(mounted)


def _once_each(lowers: Sequence[str]) -> list[str]:
    """Return *lowers* without those that are there again further up.

    An image may have the same layer twice, and the kernel refuses the same directory twice. Only
    its topmost place counts: whatever lies between is covered by it again.
    """
    lowers = list(dict.fromkeys(reversed(lowers)))[::-1]
    if len(lowers) > MAX_LOWERS:
        raise OSError(_EINVAL, f"{len(lowers)} layers: overlay takes at most {MAX_LOWERS}")
    return lowers


def _goes_as_string(path: str) -> bool:
    """Whether fsconfig(2) takes *path* as it is: 255 bytes at most, and it unescapes backslashes."""
    return len(os.fsencode(path)) < 256 and "\\" not in path


def _detached(
    lowers: Sequence[str], upper: str | None, work: str | None, userxattr: bool
) -> int | None:
    """Return a mount descriptor, None where the kernel has no ``lowerdir+`` (before Linux 6.5)."""
    fs = syscalls.fsopen("overlay")
    try:
        syscalls.fsconfig_string(fs, "source", "pybuild")
        try:
            syscalls.fsconfig_string(fs, "lowerdir+", lowers[-1])
        except OSError as error:
            if error.errno != _EINVAL:
                raise
            return None
        for lower in reversed(lowers[:-1]):
            syscalls.fsconfig_string(fs, "lowerdir+", lower)
        if upper is not None and work is not None:
            syscalls.fsconfig_string(fs, "upperdir", upper)
            syscalls.fsconfig_string(fs, "workdir", work)
            syscalls.fsconfig_flag(fs, "volatile")
        for option, value in _OPTIONS.items():
            syscalls.fsconfig_string(fs, option, value)
        if userxattr:
            syscalls.fsconfig_flag(fs, "userxattr")
        syscalls.fsconfig_create(fs)
        return syscalls.fsmount(fs, 0 if upper else syscalls.MOUNT_ATTR_RDONLY)
    finally:
        os.close(fs)


def mount_by_number(
    target: str, lowers: Sequence[str], upper: str | None, work: str | None, userxattr: bool
) -> None:
    """Mount by mount(2), whose options must fit one page.

    The directories are held open and named by descriptor number, relative to ``/proc/self/fd``:
    short enough for every legal number of lowers, and no character needs escaping.
    """
    target = os.path.abspath(target)
    before = os.open(".", os.O_PATH | os.O_CLOEXEC)
    held: list[int] = []

    def hold(path: str) -> str:
        held.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return str(held[-1])

    try:
        options = ["lowerdir=" + ":".join([hold(lower) for lower in reversed(lowers)])]
        if upper is not None and work is not None:
            options += ["upperdir=" + hold(upper), "workdir=" + hold(work), "volatile"]
        options += [f"{option}={value}" for option, value in _OPTIONS.items()]
        if userxattr:
            options.append("userxattr")
        os.chdir("/proc/self/fd")
        flags = 0 if upper else syscalls.MS_RDONLY
        syscalls.mount("pybuild", target, "overlay", flags, ",".join(options))
    finally:
        os.fchdir(before)
        syscalls.close_quietly(before, *held)


def remove_work(work: str) -> None:
    """Remove *work*, once its overlay is unmounted, with what the kernel leaves in it.

    Five names: whoever mounted it does that in less time than a thread takes to be told of it.
    What does not go, as another kernel may leave more, is left for those who delete trees.
    """
    try:
        os.unlink(work + "/work/incompat/volatile/dirty")
        for name in ("/work/incompat/volatile", "/work/incompat", "/work", ""):
            os.rmdir(work + name)
    except OSError:
        pass


def tmpfs(*, size_bytes: int = 0, mode: int = 0o755, attributes: int = 0, **options: str) -> int:
    """Return a new tmpfs as a mount descriptor; a size of 0 is the kernel's default."""
    if size_bytes:
        options["size"] = str(size_bytes)
    return filesystem("tmpfs", attributes, mode=f"{mode:o}", **options)


def filesystem(kind: str, attributes: int, **options: str) -> int:
    """Return a new mount of a file system of that *kind*, attached nowhere; empty options are flags."""
    fs = syscalls.fsopen(kind)
    try:
        syscalls.fsconfig_string(fs, "source", kind)
        for key, value in options.items():
            if value:
                syscalls.fsconfig_string(fs, key, value)
            else:
                syscalls.fsconfig_flag(fs, key)
        syscalls.fsconfig_create(fs)
        return syscalls.fsmount(fs, attributes)
    finally:
        os.close(fs)
