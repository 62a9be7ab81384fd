"""Paths as instructions write them, made absolute and clean [WD-1, CP-2, CP-10]."""

from __future__ import annotations

import posixpath
import re

from pybuild.model.errors import UserError

_DRIVE = re.compile(r"([A-Za-z]):")


def clean(path: str) -> str:
    """Return *path* as absolute, without ``.``, ``..``, doubled or trailing slashes."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def from_windows(path: str) -> str:
    r"""Return a path of Windows with slashes and without its drive, which is ``C:`` [WD-1].

    Raises:
        UserError: another drive.
    """
    text = path.replace("\\", "/")
    drive = _DRIVE.match(text)
    if drive is None:
        return text
    if drive[1] not in "cC":
        raise UserError(f'the specified path "{path}" is not on the system drive (C:)')
    text = text[2:]
    if not text:
        raise UserError(f'the path "{path}" names a drive and nothing on it')
    return text


def to_windows(path: str) -> str:
    """Return *path* as configs of Windows images have it."""
    return path.replace("/", "\\")


def join(parent: str, path: str) -> str:
    """Return *path* cleaned; a relative one starts at *parent*."""
    return clean(path if path.startswith("/") else f"{parent}/{path}")


def workdir(current: str, path: str) -> str:
    """Return the new working directory as config and history state it [WD-1].

    An absolute path is taken as it is written, whatever there is to clean in it. An empty one, as
    a variable without a value makes it, changes nothing.
    """
    path = path or current
    return path if path.startswith("/") else join(current, path)


def destination(cwd: str, path: str) -> str:
    """Return the absolute destination of a copy; a trailing slash means a directory [CP-11]."""
    if path in ("", "."):
        path = "./"
    directory = path.endswith(("/", "/."))
    full = join(cwd, path)
    return full + "/" if directory and full != "/" else full


def has_wildcard(path: str) -> bool:
    r"""Return whether *path* is a pattern: has ``*``, ``?`` or ``[`` without a backslash [CP-3]."""
    if "*" not in path and "?" not in path and "[" not in path:
        return False
    escaped = False
    for char in path:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in "*?[":
            return True
    return False


def components(path: str) -> int:
    """Return the number of components of *path*'s clean form."""
    return len([part for part in clean(path).split("/") if part])
