"""Contexts that a program gives as files or as an archive, laid out in a directory of the build."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping

from pybuild.model.errors import UsageError

GivenContext = str | os.PathLike[str] | Mapping[str, bytes | str] | bytes


def source_of(name: str, given: GivenContext, scratch: str) -> str:
    """Return the source of a context, written below *scratch* where it was given as files.

    Files given by path are of the year 1970, so that the same ones make the same image.

    Raises:
        UsageError: a path that leads out of it, or no archive.
    """
    if not isinstance(given, Mapping | bytes):
        return os.fspath(given)
    folder = os.path.join(scratch, name)
    os.mkdir(folder)
    if isinstance(given, bytes):
        try:
            with tarfile.open(fileobj=io.BytesIO(given)) as archive:
                _unpack(name, archive, folder)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise UsageError(f"{name}: no archive that can be unpacked: {error}") from error
        return folder
    for path, data in given.items():
        target = _target(name, path, folder, set[str]())
        with open(target, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        os.chmod(target, 0o644)
        os.utime(target, (0, 0))
    for directory, _, _ in os.walk(folder):
        os.utime(directory, (0, 0))
    return folder


def unpack_context(path: str, scratch: str) -> str:
    """Return the directory below *scratch* that the context in an archive was unpacked to.

    Raises:
        UsageError: it is none, or has a path in it that leads out of it.
    """
    folder = os.path.join(scratch, "context")
    os.mkdir(folder)
    try:
        with tarfile.open(path) as archive:
            _unpack("context", archive, folder)
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise UsageError(f"context: no archive that can be unpacked: {error}") from error
    return folder


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive, which may end with the last byte of the last one.

    Docker's client neither fills the block nor marks the end where it adds the Dockerfile of ``-f -``.

    Raises:
        ReadError: it ends before.
    """
    last: tarfile.TarInfo | None = None
    while True:
        try:
            member = archive.next()
        except tarfile.ReadError:
            if last is None or not last.size or (data := archive.extractfile(last)) is None:
                raise
            data.seek(last.size - 1)
            data.read(1)  # which fails where it is not there
            return
        if member is None:
            return
        yield member
        last = member


def _unpack(name: str, archive: tarfile.TarFile, folder: str) -> None:
    """Write files, directories and links; through none of those links, and nothing of another kind.

    `tarfile` itself writes through links before Python 3.11.4.
    """
    links: set[str] = set()
    files: set[str] = set()
    folders: list[tuple[str, float]] = []
    for member in _members(archive):
        if os.path.normpath(member.name) == ".":
            continue
        target = _target(name, member.name, folder, links)
        file = archive.extractfile(member) if member.isreg() else None
        if member.issym():
            os.symlink(member.linkname, target)
            links.add(target)
            continue
        if member.isdir():
            os.makedirs(target, exist_ok=True)
            folders.append((target, member.mtime))
        elif member.islnk():
            linked = os.path.normpath(member.linkname)
            if linked not in files:
                raise UsageError(f'{name}: "{member.name}" is a link to no file before it')
            os.link(os.path.join(folder, linked), target)
            continue
        elif file is not None:
            files.add(os.path.normpath(member.name))
            with open(target, "wb") as copy:
                while data := file.read(1 << 20):
                    copy.write(data)
            os.utime(target, (member.mtime, member.mtime))
        else:
            raise UsageError(
                f'{name}: "{member.name}" is neither a file nor a directory nor a link'
            )
        os.chmod(target, member.mode & 0o777 | (0o700 if member.isdir() else 0o400))
    for path, mtime in reversed(folders):
        os.utime(path, (mtime, mtime))


def _target(name: str, path: str, folder: str, links: set[str]) -> str:
    """Return where *path* is to be written, its directories made and a link that stood there removed."""
    inside = os.path.normpath(path)
    if os.path.isabs(inside) or inside.split("/")[0] == ".." or inside == "." or "\0" in path:
        raise UsageError(f'{name}: "{path}" is no path inside of a context')
    target = os.path.join(folder, inside)
    parent: str = os.path.dirname(target)
    while parent != folder:
        if parent in links:
            raise UsageError(f'{name}: "{path}" leads through a link of the archive')
        parent = os.path.dirname(parent)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if target in links:
        os.unlink(target)
        links.discard(target)
    return target
