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
from pybuild.executor.files.remarking import Copied
from pybuild.executor.files.selecting import NoFolder, Source, find, select
from pybuild.executor.files.tree import Tree
from pybuild.executor.files.values import (
    ActionFailure,
    Applied,
    CopyPath,
    DeltaStack,
    MakeDirectory,
    MakeFile,
    RemovePath,
)
from pybuild.executor.zygote import isolation, overlay, syscalls, ulimits
from pybuild.executor.zygote.copied import views
from pybuild.executor.zygote.copied.overlaycheck import overlay_works_in
from pybuild.executor.zygote.faults import ENVIRONMENT, MOVED, USER, Fault, describe_os_error
from pybuild.image.layer import ownership

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from pybuild.executor.files.values import (
        OwnerMode,
        OwnerNames,
        Refresh,
        Remark,
        TreeAction,
        TreeInput,
    )
    from pybuild.model.border import WorkerCall

_DEEP = 20_000
_FULL = ("run pybuild prune", "put the store elsewhere with PYBUILD_ROOT")


def apply(
    call: WorkerCall,
    mount_dir: str,
    upper: str,
    *,
    work: str = "",
    base: Sequence[str] = (),
    inputs: Mapping[int, TreeInput] | None = None,
    actions: Sequence[TreeAction] = (),
    refresh: Refresh | None = None,
    look: OwnerMode | None = None,
    judge: bool = False,
    keep: bool = False,
) -> Applied:
    """Do the actions of one file op on a base; what they change ends up in *upper*.

    Args:
        base: directories of the base's deltas, base first; none is scratch.
        upper, work: empty directories for overlay, on one file system.
        mount_dir: an empty directory that may be mounted on.
        inputs: the trees that are copied from.
        refresh: the one action is a copy that is brought up to date.
        look: of the root of the result, in place of the base's.
        judge: see what an earlier copy has to know of this one; otherwise it counts as not additive.
        keep: leave in *upper* what is there by then when an action fails, and tell of it.

    Needs a private mount namespace. Leaves nothing behind in its process.

    Raises:
        Fault: user or environment. OSError: the file system failed us.
    """
    os.umask(0)
    sys.setrecursionlimit(_DEEP)
    ulimits.raise_file_limit()
    copy_root_look(base, upper)
    with Mounts(mount_dir) as mounts:
        doing = _Work(mounts, inputs or {}, refresh, call)
        failure = _change(doing, base, upper, work, actions, look, keep=keep)
        additive = judge and failure is None and is_additive(upper, userxattr=mounts.userxattr)
        return Applied(additive, doing.met if judge else [], doing.remarks, failure)


def _change(
    work: _Work,
    base: Sequence[str],
    upper: str,
    work_dir: str,
    actions: Sequence[TreeAction],
    look: OwnerMode | None,
    *,
    keep: bool,
) -> ActionFailure | None:
    # Without a base there is nothing to overlay, and one copy stays a reflink.
    changing: views.Changing | None = None
    merged = upper
    if base and not overlay_works_in(upper):
        userxattr = isolation.uses_userxattr()
        changing = views.Changing(base, upper, work_dir, userxattr=userxattr)
        merged = changing.path
    elif base:
        merged = work.mounts.overlay(base, upper, work_dir)
    with Tree.open(merged, ledger=work.mounts.ledger(base)) as target:
        failure: ActionFailure | None = None
        try:
            for number, action in enumerate(actions):
                try:
                    work.do(target, action)
                except (Fault, OSError) as error:
                    failure = _failure(number, error)
                    if not keep or failure.kind == MOVED:
                        raise
                    break
            else:
                work.remark(target)
        finally:
            work.close()
        if look is not None:
            give("", target.fd, (look.uid, look.gid), ledger=target.ledger)
            os.fchmod(target.fd, look.mode)
        if changing is not None:
            changing.collect()
        if target.ledger is not None:
            target.ledger.save(upper, merged if changing is None else None)
        return failure


def _failure(number: int, error: Fault | OSError) -> ActionFailure:
    if isinstance(error, OSError):
        return ActionFailure(number, ENVIRONMENT, describe_os_error(error), [])
    return ActionFailure(number, error.kind, error.message, error.hints)


def copy_root_look(base: Sequence[str], upper: str) -> None:
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

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.userxattr = isolation.uses_userxattr()
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

    def ledger(self, lowers: Sequence[str]) -> ownership.OwnershipNotes | None:
        """Return the notes about the files of a tree; None where nothing needs notes."""
        if not (isolation.in_zygote() and isolation.uses_userxattr()):
            return None
        return ownership.OwnershipNotes(lowers, notes_owners=isolation.records())

    def overlay(
        self, lowers: Sequence[str], upper: str | None = None, work: str | None = None
    ) -> str:
        """Return where the tree of *lowers* (base first) is mounted, read-only without *upper*."""
        if upper is None and not overlay_works_in(self._directory):
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

    def tree(self, source: TreeInput) -> Tree:
        """Open an input: a read-only overlay of a snapshot, or a directory of the client."""
        if isinstance(source, DeltaStack):
            return Tree.open(self.overlay(source.deltas), ledger=self.ledger(source.deltas))
        try:
            tree = Tree.open(
                source.local, source.exclude, is_local=True, git_modes=source.git_modes
            )
        except ValueError as error:
            raise Fault(USER, str(error)) from error
        tree.as_it_comes = source.as_it_comes
        return tree


class _Work:
    """Does actions one by one."""

    def __init__(
        self,
        mounts: Mounts,
        inputs: Mapping[int, TreeInput],
        refresh: Refresh | None,
        call: WorkerCall,
    ) -> None:
        self.mounts = mounts
        self._inputs = inputs
        self._refresh = refresh
        self._call = call
        self._trees: dict[int, Tree] = {}
        self._copied = Copied()
        self.met: list[str] = []
        self.remarks: list[Remark] = []

    def remark(self, target: Tree) -> None:
        """See whether the copies did what was meant."""
        self.remarks = self._copied.remarks(target, self._inputs, self._trees)

    def close(self) -> None:
        for tree in self._trees.values():
            tree.close()

    def do(self, target: Tree, action: TreeAction) -> None:
        try:
            self._do(target, action)
        except OSError as error:
            name = error.filename
            if not (isinstance(name, (str, bytes)) and os.fsencode(name).startswith(b"/")):
                error.filename = action.dest if isinstance(action, CopyPath) else action.path
                error.filename2 = None
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Fault(ENVIRONMENT, describe_os_error(error), _FULL) from error
            raise

    def _do(self, target: Tree, action: TreeAction) -> None:
        if isinstance(action, RemovePath):
            edits.remove(
                target,
                action.path,
                wildcard=action.wildcard,
                allow_not_found=action.allow_not_found,
            )
            return
        owner = _owner(target, action.owner, action.is_scratch)
        mtime_ns = action.mtime_ns
        if isinstance(action, CopyPath):
            self._copy(target, action, owner)
        elif isinstance(action, MakeDirectory):
            edits.mkdir(
                target,
                action.path,
                mode=action.mode,
                parents=action.make_parents,
                owner=owner,
                mtime_ns=mtime_ns,
            )
        elif isinstance(action, MakeFile):
            edits.mkfile(
                target,
                action.path,
                action.data,
                mode=action.mode,
                parents=action.make_parents,
                owner=owner,
                mtime_ns=mtime_ns,
            )
        else:
            edits.symlink(target, action.path, action.target, owner=owner, mtime_ns=mtime_ns)

    def _tree(self, index: int) -> Tree:
        if index not in self._trees:
            self._trees[index] = self.mounts.tree(self._inputs[index])
        return self._trees[index]

    def _copy(self, target: Tree, action: CopyPath, owner: owners.Ids | None) -> None:
        if not action.make_parents:
            edits.need_parent(target, action.dest)
        tree = self._tree(action.input)
        copier = (Copier if self._refresh is None else Refresher)(
            tree,
            target,
            owner=owner,
            keep_owner=not tree.is_local,
            mode=action.mode,
            exclude=action.exclude,
            mtime_ns=action.mtime_ns,
            progress=self._call.progress,
        )
        copier.replaces = action.replace
        if isinstance(copier, Refresher) and self._refresh is not None:
            copier.changed = self._refresh.changed
        if action.parents_pivot is not None:
            self._copy_parents(copier, tree, action, action.parents_pivot)
            return
        try:
            sources = select(tree, action.source, wildcard=action.wildcard, lenient=False)
        except NoFolder as missing:
            raise _not_found(tree, missing.path) from missing
        self._copied.note(action, len(sources))
        if not sources and not action.allow_empty:
            raise _not_found(tree, action.source)
        for source in sources:
            try:
                if action.unpack and self._unpack(target, tree, source, action, owner):
                    continue
                copier.copy(
                    source,
                    action.dest,
                    contents_only=action.contents_only,
                    follow=action.follow_source_links,
                )
            except FileNotFoundError as error:
                raise _not_found(tree, "/" + source.path) from error
        self._copied.note_bytes(action, copier.copied_bytes)
        above = copier.top + "/" if copier.top else ""
        self.met = [path.removeprefix(above) for path in copier.met if path.startswith(above)]
        if self._refresh is not None and action.mtime_ns is None:
            self._date_parents(target, action.dest, self._refresh.under)

    def _date_parents(self, target: Tree, dest: str, under: Sequence[str]) -> None:
        parents = [part for part in dest.split("/") if part][:-1]
        if not parents:
            return
        if not under:
            date_parents(target, None, parents)
            return
        with Tree.open(self.mounts.overlay(under)) as before:
            date_parents(target, before, parents)

    def _copy_parents(self, copier: Copier, tree: Tree, action: CopyPath, pivot: int) -> None:
        parts = [part for part in action.source.split("/") if part]
        root, pattern = "/".join(parts[:pivot]), "/".join(parts[pivot:])
        is_there = False
        for source in select(tree, root, wildcard=action.wildcard):
            try:
                if pattern:
                    is_there |= copier.copy_parents(source, pattern, action.dest)
                else:
                    copier.copy(source, action.dest + "/", contents_only=True, follow=True)
                    is_there = True
            except FileNotFoundError as error:
                raise _not_found(tree, action.source) from error
        self._copied.note(action, int(is_there))
        if not is_there and not action.wildcard:
            raise _not_found(tree, action.source)

    def _unpack(
        self,
        target: Tree,
        tree: Tree,
        source: Source,
        action: CopyPath,
        owner: owners.Ids | None,
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
                disk = os.fstatvfs(target.fd)
                limit = disk.f_bavail * disk.f_frsize * 19 // 20
                read = archives.capped(read, place.path, limit)
                unpack.unpack(
                    read,
                    target,
                    action.dest,
                    name=place.path,
                    owner=owner,
                    mtime_ns=action.mtime_ns,
                )
            finally:
                os.close(fd)
        return True


def _owner(target: Tree, names: OwnerNames | None, is_scratch: bool) -> owners.Ids | None:
    if names is None:
        return None
    return owners.resolve(target, names.user, names.group, is_scratch=is_scratch)


def _not_found(tree: Tree, path: str) -> Fault:
    """Return the fault for what is not there; it was, in a directory of the client, when digested."""
    return Fault(MOVED if tree.is_local else USER, f'"{path}": not found')
