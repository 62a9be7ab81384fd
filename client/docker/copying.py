"""``cp`` between this machine and a container far away: archives [EP-28, CTR-85…88]."""

from __future__ import annotations

import base64
import json
import os
import posixpath
import shutil
import sys
import tarfile
import tempfile
from typing import Any, BinaryIO, cast

from pybuild.client.docker.requests import EngineRefusal, Requests, named
from pybuild.client.docker.unpacking import checked
from pybuild.model.errors import UserError
from pybuild.model.tarplaces import write_as_it_is

_DIRECTORY = 1 << 31
"""Of a mode as Go writes it."""


def _stat(engine: Requests, container: str, path: str) -> dict[str, Any] | None:
    """Return the name and mode of a path in a container, None where there is none."""
    try:
        with engine.asking(
            "HEAD", named("containers", container, "archive"), {"path": path}
        ) as response:
            text = response.headers.get("X-Docker-Container-Path-Stat", "")
    except EngineRefusal as error:
        if error.status == 404:
            return None
        raise
    known: dict[str, Any] = json.loads(base64.b64decode(text))
    return known


def copy_out(engine: Requests, container: str, path: str, to: str, *, owners: bool) -> None:
    """Copy a path of a container to this machine; ``-`` is a tar on standard output."""
    query = {"path": path}
    with engine.asking("GET", named("containers", container, "archive"), query) as response:
        if to == "-":
            shutil.copyfileobj(cast("BinaryIO", response), sys.stdout.buffer)
            sys.stdout.flush()
            return
        inside = os.path.isdir(to)
        if not inside and not os.path.isdir(os.path.dirname(os.path.abspath(to))):
            raise UserError(f"{os.path.dirname(to)}: no such directory")
        contents = posixpath.basename(path.rstrip("/")) == "." or path.endswith("/.")
        with tarfile.open(fileobj=cast("BinaryIO", response), mode="r|") as archive:
            parent = to if inside else os.path.dirname(os.path.abspath(to))
            target = "" if inside and contents else os.path.basename(os.path.abspath(to))
            for member in archive:
                root, _, rest = member.name.removeprefix("./").partition("/")
                name = root if inside and not contents else target
                member.name = "/".join(part for part in (name, rest) if part) or "."
                if member.islnk():
                    _, _, linked = member.linkname.removeprefix("./").partition("/")
                    member.linkname = "/".join(part for part in (name, linked) if part)
                write_as_it_is(archive, checked(member, parent), parent, numeric_owner=owners)


def copy_in(
    engine: Requests, container: str, source: str, path: str, *, follow: bool, owners: bool
) -> None:
    """Copy a path of this machine into a container; ``-`` is a tar on standard input."""
    query: dict[str, Any] = {"noOverwriteDirNonDir": True, "copyUIDGID": owners}
    where = named("containers", container, "archive")
    headers = {"Content-Type": "application/x-tar"}
    if source == "-":
        engine.ask("PUT", where, {**query, "path": path}, sys.stdin.buffer, headers=headers)
        return
    if not os.path.lexists(source):
        raise UserError(f"lstat {source}: no such file or directory")
    there = _stat(engine, container, path)
    is_directory = there is not None and there["mode"] & _DIRECTORY
    if not is_directory and path.endswith("/"):
        raise UserError(f"{path}: no such directory in {container}")
    name = os.path.basename(os.path.abspath(source))
    folder, arcname = path, name
    if source.endswith(("/.", os.sep + ".")) or source == ".":
        arcname = "."
    if not is_directory:
        folder, arcname = posixpath.dirname(path.rstrip("/")) or "/", posixpath.basename(path)
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w", dereference=follow) as archive:
            archive.add(source, arcname)
        file.seek(0)
        engine.ask("PUT", where, {**query, "path": folder}, file, headers=headers)
