"""Owners: ``--chown`` names looked up in a tree's own passwd and group [CP-21]."""

from __future__ import annotations

import os
import stat

from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.files.tree import Tree

MAX_FILE_BYTES = 10 << 20
MAX_ID = (1 << 32) - 2
Ids = tuple[int, int]


def resolve(tree: Tree, user: str, group: str | None, *, is_scratch: bool) -> Ids:
    """Return the numbers that *user* and *group* mean in *tree*.

    Args:
        is_scratch: the tree is the empty base: there is nothing to look a name up in, which is an
            error; in any other tree an unknown name silently counts as 0, as the peer has it.

    Raises:
        Fault: user; a name on scratch, or a number out of range.
    """
    uid, gid = _user(tree, user, is_scratch)
    if group:
        number = _number(group)
        if number is None:
            if is_scratch:
                raise Fault(USER, "invalid group index: -1", _on_scratch(group))
            number = (_lookup(tree, "etc/group", group, 2) or (0,))[0]
        gid = number
    return uid, gid


def _user(tree: Tree, user: str, is_scratch: bool) -> Ids:
    number = _number(user)
    if number is not None:
        return number, number
    if is_scratch:
        raise Fault(USER, "invalid user index: -1", _on_scratch(user))
    return _lookup(tree, "etc/passwd", user, 2, 3) or (0, 0)


def unknown(tree: Tree, user: str, group: str | None) -> tuple[str, str] | None:
    """Return the kind and the name of an owner that *tree* does not know, if one."""
    if _number(user) is None and _lookup(tree, "etc/passwd", user, 2, 3) is None:
        return "user", user
    if group and _number(group) is None and _lookup(tree, "etc/group", group, 2) is None:
        return "group", group
    return None


def _on_scratch(name: str) -> tuple[str, ...]:
    return (f'"{name}" cannot be looked up in an empty base: give a number',)


def _number(text: str) -> int | None:
    """Return *text* as an id, None when it is a name."""
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) > 10 or int(text) > MAX_ID:
        raise Fault(USER, f"owner {text} is out of range: ids go from 0 to {MAX_ID}")
    return int(text)


def _lookup(tree: Tree, path: str, name: str, first: int, second: int = 0) -> Ids | None:
    """Return two numeric fields of the line of *path* that begins with *name*; None if none does."""
    name_bytes = os.fsencode(name)
    for line in _read(tree, path).splitlines():
        fields = line.strip().split(b":")
        if fields[0] != name_bytes or len(fields) <= max(first, second):
            continue
        numbers = fields[first], fields[second] if second else b"0"
        if all(n.isdigit() and len(n) <= 10 for n in numbers):
            return int(numbers[0]), int(numbers[1])
    return None


def _read(tree: Tree, path: str) -> bytes:
    """Return the file's bytes; none where there is no such file."""
    try:
        place = tree.locate(path)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    with place:
        if place.status is None:
            return b""
        if not stat.S_ISREG(place.status.st_mode):
            raise Fault(USER, f"/{path} is not a regular file")
        if place.status.st_size > MAX_FILE_BYTES:
            raise Fault(ENVIRONMENT, f'"/{path}" exceeds {MAX_FILE_BYTES} bytes')
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(place.name, flags, dir_fd=place.fd)
        with open(fd, "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
