"""Lets clients look into the trees that their references stand for [6]."""

from __future__ import annotations

from typing import Any

from pybuild.buildkit.fsutil import gomode
from pybuild.buildkit.pb.fsutil import Stat
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.model.errors import UserError
from pybuild.model.patterns import match

MAX_FILE_BYTES = 16 << 20


async def read_file(
    scope: Scope, reference: LazyTree, path: str, limits: tuple[int, int] | None
) -> bytes:
    """Return a file, or the part of it that *limits* (offset, length) says.

    Raises:
        UserError: there is none, or it is larger than a message may be.
    """
    offset, length = limits or (0, 0)
    if offset < 0 or length < 0:
        raise UserError(f"invalid range {offset}:{length}")
    wanted = min(length or MAX_FILE_BYTES + 1, MAX_FILE_BYTES + 1)
    found = await _look(scope, reference, path, "read", offset=offset, limit=wanted)
    data: bytes = found["data"]
    if len(data) > MAX_FILE_BYTES:
        raise UserError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB")
    return data


async def read_dir(scope: Scope, reference: LazyTree, path: str, pattern: str) -> list[Stat]:
    """Return the entries of a directory whose names match *pattern*; empty for all.

    Raises:
        UserError: there is no directory, or the pattern is malformed.
    """
    found = await _look(scope, reference, path or "/", "list")
    try:
        return [_stat(e) for e in found["entries"] if not pattern or match(pattern, e[0])]
    except ValueError as error:
        raise UserError(f"{pattern}: {error}") from error


async def stat_file(scope: Scope, reference: LazyTree, path: str) -> Stat:
    """Return the entry at *path*; a link is not followed.

    Raises:
        UserError: nothing is.
    """
    return _stat((await _look(scope, reference, path or "/", "stat"))["entry"])


async def _look(
    scope: Scope, reference: LazyTree, path: str, what: str, **more: Any
) -> dict[str, Any]:
    snapshot = await reference.snapshot()
    job = "pybuild.executor.files.looking:look"
    found = await scope.engine.look(job, snapshot.deltas, path=path, what=what, **more)
    if "missing" in found:
        verb = {"read": "open", "list": "open", "stat": "lstat"}[what]
        raise UserError(f"{verb} {path}: no such file or directory")
    return found


def _stat(entry: list[Any]) -> Stat:
    name, mode, uid, gid, size, mtime, link, major, minor = entry
    return Stat(
        path=name,
        mode=gomode.to_go(mode),
        uid=uid,
        gid=gid,
        size=size,
        modTime=mtime,
        linkname=link,
        devmajor=major,
        devminor=minor,
    )
