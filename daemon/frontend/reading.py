"""Lets clients look into the trees that their references stand for [6]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pybuild.buildkit.fsutil import gomode
from pybuild.buildkit.pb.fsutil import Stat
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.model.errors import UserError
from pybuild.model.patterns import match

if TYPE_CHECKING:
    from pybuild.executor.files import looking
    from pybuild.executor.files.values import TreeEntry
else:
    looking = WorkerModule("pybuild.executor.files.looking")

MAX_FILE_BYTES = 16 << 20


async def directories_of(scope: Scope, reference: LazyTree) -> Sequence[str]:
    """Return the directories of a tree, base first."""
    return await scope.runner.ensure(await reference.snapshot())


async def read_file(
    scope: Scope, directories: Sequence[str], path: str, limits: tuple[int, int] | None
) -> bytes:
    """Return a file, or the part of it that *limits* (offset, length) says.

    Raises:
        UserError: there is none, or it is larger than a message may be.
    """
    offset, length = limits or (0, 0)
    if offset < 0 or length < 0:
        raise UserError(f"invalid range {offset}:{length}")
    limit = min(length or MAX_FILE_BYTES + 1, MAX_FILE_BYTES + 1)
    mount_dir = scope.engine.mount_dir()
    data = await scope.engine.workers.call(
        job(looking.data, mount_dir, directories, path, offset, limit)
    )
    if data is None:
        raise UserError(f"open {path}: no such file or directory")
    if len(data) > MAX_FILE_BYTES:
        raise UserError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB")
    return data


async def read_dir(scope: Scope, directories: Sequence[str], path: str, pattern: str) -> list[Stat]:
    """Return the entries of a directory whose names match *pattern*; empty for all.

    Raises:
        UserError: there is no directory, or the pattern is malformed.
    """
    path = path or "/"
    if not directories and not path.strip("/."):
        return []  # the empty tree is no directory anywhere
    mount_dir = scope.engine.mount_dir()
    entries = await scope.engine.workers.call(job(looking.entries, mount_dir, directories, path))
    if entries is None:
        raise UserError(f"open {path}: no such file or directory")
    try:
        return [_stat(one) for one in entries if not pattern or match(pattern, one.name)]
    except ValueError as error:
        raise UserError(f"{pattern}: {error}") from error


async def stat_file(scope: Scope, directories: Sequence[str], path: str) -> Stat:
    """Return the entry at *path*; a link is not followed.

    Raises:
        UserError: nothing is.
    """
    path = path or "/"
    mount_dir = scope.engine.mount_dir()
    entry = await scope.engine.workers.call(job(looking.entry, mount_dir, directories, path))
    if entry is None:
        raise UserError(f"lstat {path}: no such file or directory")
    return _stat(entry)


def _stat(entry: TreeEntry) -> Stat:
    return Stat(
        path=entry.name,
        mode=gomode.to_go(entry.mode),
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size,
        modTime=entry.mtime_ns,
        linkname=entry.target,
        devmajor=entry.major,
        devminor=entry.minor,
    )
