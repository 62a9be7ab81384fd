"""The worker function that does a file op."""

from __future__ import annotations

import errno
import os
import stat
import sys

from pybuild.executor.files import archives, edits, owners, unpack
from pybuild.executor.files.copying import Copier
from pybuild.executor.files.making import give
from pybuild.executor.files.refreshing import Refresher, date_parents, is_additive
from pybuild.executor.files.selecting import Source, find, select
from pybuild.executor.files.tree import Tree
from pybuild.executor.zygote import isolation, overlay, syscalls
from pybuild.executor.zygote.copied import views
from pybuild.executor.zygote.faults import ENVIRONMENT, MOVED, USER, Fault, describe_os_error
from pybuild.image.layer import ownership

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    Progress = Callable[[dict[str, Any]], None]

_DEEP = 20_000
_FULL = ("run pybuild prune", "put the store elsewhere with PYBUILD_ROOT")


def apply(args: dict[str, Any], fds: list[int], progress: Progress) -> dict[str, Any]:
    """Do the actions of one file op on a base; what they change ends up in ``upper``.

    Args, JSON-able but for the bytes of files:
        base: directories of the base's deltas, base first; none is scratch.
        upper, work: empty directories for overlay, on one file system.
        mount_dir: an empty directory that may be mounted on.
        inputs: index to ``{"deltas": [...]}`` or ``{"local": path, "exclude": [...]}``
            with ``git_modes`` where files are to have those, ``as_it_comes`` where what changes
            meanwhile is taken as it was read.
        actions: as `encode.encode_action` makes them; a copy with ``changed`` as `Refresher` has it,
            and ``under``, the base without the earlier copy.
        look: ``uid``, ``gid`` and ``mode`` for the root of the result, in place of the base's.
        userxattr: only where the function runs outside of a zygote; found out otherwise.

    Returns ``additive``, as `refreshing.is_additive` has it, and ``met``, paths below the last copied
    directory that its copy found taken, where it is ``asked``.

    Needs a private mount namespace. Leaves nothing behind in its process.

    Raises:
        Fault: user or environment. OSError: the file system failed us.
    """
    os.umask(0)
    sys.setrecursionlimit(_DEEP)
    _raise_file_limit()
    base: list[str] = args["base"]
    upper: str = args["upper"]
    copy_root_look(base, upper)
    with Mounts(args["mount_dir"], args.get("userxattr")) as mounts:
        met = _change(args, base, upper, mounts, progress)
        if not args.get("asked"):
            return {}
        return {"additive": is_additive(upper, userxattr=mounts.userxattr), "met": met}


def _change(
    args: dict[str, Any], base: list[str], upper: str, mounts: Mounts, progress: Progress
) -> list[str]:
    # Without a base there is nothing to overlay, and one copy stays a reflink.
    changing: views.Changing | None = None
    merged = upper
    if base and views.needed(upper):
        userxattr = isolation.uses_userxattr()
        changing = views.Changing(base, upper, args["work"], userxattr=userxattr)
        merged = changing.path
    elif base:
        merged = mounts.overlay(base, upper, args["work"])
    with Tree.open(merged, ledger=mounts.ledger(base)) as target:
        work = _Work(target, args["inputs"], mounts, progress)
        try:
            for action in args["actions"]:
                work.do(action)
        finally:
            work.close()
        look = args.get("look")
        if look is not None:
            give("", target.fd, (look["uid"], look["gid"]), ledger=target.ledger)
            os.fchmod(target.fd, look["mode"])
        if changing is not None:
            changing.collect()
        if target.ledger is not None:
            target.ledger.save(upper, merged if changing is None else None)
        return work.met


def _raise_file_limit() -> None:
    """A directory holds two descriptors while its entries are copied, however deep."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass


def copy_root_look(base: list[str], upper: str) -> None:
    """Give *upper* the root directory's mode and owner of the tree that it will lie on.

    Overlay takes the root's attributes from the upper directory. Scratch has 0755 and root.
    """
    if not base:
        os.chown(upper, 0, 0)
        os.chmod(upper, 0o755)
        return
    status = os.stat(base[-1])
    os.chown(upper, status.st_uid, status.st_gid)
    os.chmod(upper, stat.S_IMODE(status.st_mode))
    if isolation.in_zygote() and isolation.records():
        ownership.write_owner(upper, *(ownership.read_owner(base[-1]) or (0, 0)))
    os.utime(upper, ns=(status.st_atime_ns, status.st_mtime_ns))


class Mounts:
    """Makes overlay mounts below one directory, which a tmpfs covers first."""

    def __init__(self, directory: str, userxattr: bool | None) -> None:
        self._directory = directory
        self.userxattr = isolation.uses_userxattr() if userxattr is None else userxattr
        self._count = 0
        self._works: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Take all of it away again, at once where no file of it is open any more."""
        if self._count:
            syscalls.umount2(self._directory, syscalls.MNT_DETACH)
            self._count = 0
        while self._works:
            overlay.remove_work(self._works.pop())

    def ledger(self, lowers: list[str]) -> ownership.Ledger | None:
        """Return the notes about the files of a tree; None where nothing needs notes."""
        if not (isolation.in_zygote() and isolation.uses_userxattr()):
            return None
        return ownership.Ledger(lowers, notes_owners=isolation.records())

    def overlay(self, lowers: list[str], upper: str | None = None, work: str | None = None) -> str:
        """Return where the tree of *lowers* (base first) is mounted, read-only without *upper*."""
        if upper is None and views.needed(self._directory):
            return views.view(self._directory, lowers, userxattr=self.userxattr)
        if not self._count:
            covering = overlay.tmpfs()
            try:
                syscalls.move_mount(covering, syscalls.AT_FDCWD, self._directory)
            finally:
                os.close(covering)
        self._count += 1
        target = f"{self._directory}/{self._count}"
        os.mkdir(target)
        overlay.mount_overlay(target, lowers, upper, work, userxattr=self.userxattr)
        if work is not None:
            self._works.append(work)
        return target

    def tree(self, source: dict[str, Any]) -> Tree:
        """Open an input: a read-only overlay of a snapshot, or a directory of the client."""
        if "local" in source:
            try:
                tree = Tree.open(
                    source["local"],
                    source.get("exclude", ()),
                    is_local=True,
                    git_modes=source.get("git_modes", False),
                )
                tree.as_it_comes = source.get("as_it_comes", False)
                return tree
            except ValueError as error:
                raise Fault(USER, str(error)) from error
        deltas: list[str] = source["deltas"]
        return Tree.open(self.overlay(deltas), ledger=self.ledger(deltas))


class _Work:
    """Does actions one by one."""

    def __init__(
        self, target: Tree, inputs: dict[str, Any], mounts: Mounts, progress: Progress
    ) -> None:
        self._target = target
        self._inputs = inputs
        self._mounts = mounts
        self._progress = progress
        self._trees: dict[str, Tree] = {}
        self.met: list[str] = []

    def close(self) -> None:
        for tree in self._trees.values():
            tree.close()

    def do(self, action: dict[str, Any]) -> None:
        try:
            self._do(action)
        except OSError as error:
            name = error.filename
            if not (isinstance(name, (str, bytes)) and os.fsencode(name).startswith(b"/")):
                error.filename = action.get("dest") or action.get("path") or "/"
                error.filename2 = None
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Fault(ENVIRONMENT, describe_os_error(error), _FULL) from error
            raise

    def _do(self, action: dict[str, Any]) -> None:
        kind = action["type"]
        owner = owners.resolve(
            self._target, action.get("owner"), is_scratch=bool(action.get("is_scratch"))
        )
        mtime_ns: int | None = action.get("mtime_ns")
        path = action.get("path", "")
        if kind == "Copy":
            self._copy(action, owner, mtime_ns)
        elif kind == "Mkdir":
            edits.mkdir(
                self._target,
                path,
                mode=action["mode"],
                parents=action["make_parents"],
                owner=owner,
                mtime_ns=mtime_ns,
            )
        elif kind == "Mkfile":
            if not action["make_parents"]:
                edits.need_parent(self._target, path)
            edits.mkfile(
                self._target,
                path,
                action["data"],
                mode=action["mode"],
                owner=owner,
                mtime_ns=mtime_ns,
            )
        elif kind == "Symlink":
            edits.symlink(self._target, path, action["target"], owner=owner, mtime_ns=mtime_ns)
        elif kind == "Rm":
            edits.remove(
                self._target,
                path,
                wildcard=action["wildcard"],
                allow_not_found=action["allow_not_found"],
            )
        else:
            raise ValueError(f"file action {kind!r} is not known")

    def _tree(self, index: int) -> Tree:
        key = str(index)
        if key not in self._trees:
            self._trees[key] = self._mounts.tree(self._inputs[key])
        return self._trees[key]

    def _copy(self, action: dict[str, Any], owner: owners.Ids | None, mtime_ns: int | None) -> None:
        if not action["make_parents"]:
            edits.need_parent(self._target, action["dest"])
        tree = self._tree(action["input"])
        copier = (Refresher if "changed" in action else Copier)(
            tree,
            self._target,
            owner=owner,
            keep_owner=not tree.is_local,
            mode=action["mode"],
            exclude=action["exclude"],
            mtime_ns=mtime_ns,
            progress=lambda done: self._progress({"copied_bytes": done}),
        )
        if isinstance(copier, Refresher):
            copier.changed = action["changed"]
        dest: str = action["dest"]
        pivot = action["parents_pivot"]
        if pivot is not None:
            self._copy_parents(copier, tree, action, pivot)
            return
        sources = select(tree, action["source"], wildcard=action["wildcard"])
        if not sources and not action["allow_empty"]:
            raise _not_found(tree, action["source"])
        for source in sources:
            try:
                if action["unpack"] and self._unpack(tree, source, dest, owner, mtime_ns):
                    continue
                copier.copy(
                    source,
                    dest,
                    contents_only=action["contents_only"],
                    follow=action["follow_source_links"],
                )
            except FileNotFoundError as error:
                raise _not_found(tree, "/" + source.path) from error
        above = copier.top + "/" if copier.top else ""
        self.met = [path.removeprefix(above) for path in copier.met if path.startswith(above)]
        if "under" in action and mtime_ns is None:
            self._date_parents(dest, action["under"])

    def _date_parents(self, dest: str, under: list[str]) -> None:
        parents = [part for part in dest.split("/") if part][:-1]
        if not parents:
            return
        if not under:
            date_parents(self._target, None, parents)
            return
        with Tree.open(self._mounts.overlay(under)) as before:
            date_parents(self._target, before, parents)

    def _copy_parents(self, copier: Copier, tree: Tree, action: dict[str, Any], pivot: int) -> None:
        parts = [part for part in action["source"].split("/") if part]
        root, pattern = "/".join(parts[:pivot]), "/".join(parts[pivot:])
        found = False
        for source in select(tree, root, wildcard=action["wildcard"]):
            try:
                if pattern:
                    found |= copier.copy_parents(source, pattern, action["dest"])
                else:
                    copier.copy(source, action["dest"] + "/", contents_only=True, follow=True)
                    found = True
            except FileNotFoundError as error:
                raise _not_found(tree, action["source"]) from error
        if not found and not action["wildcard"]:
            raise _not_found(tree, action["source"])

    def _unpack(
        self,
        tree: Tree,
        source: Source,
        dest: str,
        owner: owners.Ids | None,
        mtime_ns: int | None,
    ) -> bool:
        with find(tree, source.path, follow=True) as place:
            if place.status is None or not stat.S_ISREG(place.status.st_mode):
                return False
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(place.name, flags, dir_fd=place.fd)
            try:
                read = archives.open_archive(fd)
                if read is None:
                    return False
                disk = os.fstatvfs(self._target.fd)
                limit = disk.f_bavail * disk.f_frsize * 19 // 20
                read = archives.capped(read, place.path, limit)
                unpack.unpack(
                    read, self._target, dest, name=place.path, owner=owner, mtime_ns=mtime_ns
                )
            finally:
                os.close(fd)
        return True


def _not_found(tree: Tree, path: str) -> Fault:
    """Return the fault for what is not there; it was, in a directory of the client, when digested."""
    return Fault(MOVED if tree.is_local else USER, f'"{path}": not found')
