"""Whom a step runs as: ``user[:group]`` against the tree's own passwd and group [USR-1, SBX-14].

A number is an id even if an account has that name. With a group only that group counts; without,
the account's own and every group that lists it. An unknown number runs with group 0.
"""

from __future__ import annotations

from pybuild.executor.zygote import confined
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.model.border import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_FILE_BYTES = 10 << 20
_MAX_ID = (1 << 31) - 1


class StepUser(NamedTuple):
    """The ids of a step's program, supplementary *groups* too; *home* is "" if passwd has none."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


ROOT = StepUser(0, 0, (), "/root")


def resolve(root_fd: int, spec: str, more: Sequence[str] = ()) -> StepUser:
    """Return the user that *spec* names in the tree, who is in the groups *more*, too.

    Raises:
        Fault: user; an account or a group that is not there, an id out of range.
    """
    user, _, group = spec.partition(":")
    accounts = _records(root_fd, "/etc/passwd", 4)
    groups = _records(root_fd, "/etc/group", 3)
    name, home, gid = "", "", 0
    given_id = _number(user or "0")
    uid = given_id if given_id is not None else 0
    for fields in accounts:
        if fields[0] == user if given_id is None else fields[2] == str(given_id):
            entry_uid, entry_gid = _number(fields[2]), _number(fields[3])
            if entry_uid is None or entry_gid is None:
                continue
            name, uid, gid = fields[0], entry_uid, entry_gid
            home = fields[5] if len(fields) > 5 else ""
            break
    else:
        if user.startswith("-") and _number(user[1:]) is not None:
            raise Fault(USER, f'user "{spec}": uids and gids must be in range 0-{_MAX_ID}')
        if given_id is None:
            raise Fault(
                USER,
                f"unable to find user {user}: no matching entries in passwd file",
                (f"make it before USER: RUN adduser {user}, or write a number",),
            )
    extra: list[int] = []
    if group:
        gid = _group_id(groups, group)
    elif name:
        extra = [
            number
            for fields in groups
            if len(fields) > 3 and name in fields[3].split(",")
            if (number := _number(fields[2])) is not None
        ]
    extra += [_group_id(groups, name) for name in more]
    for number in (uid, gid, *extra):
        if number > _MAX_ID:
            raise Fault(USER, f'user "{spec}": uids and gids must be in range 0-{_MAX_ID}')
    return StepUser(uid, gid, tuple(dict.fromkeys([gid, *extra])), home)


def _group_id(groups: list[list[str]], group: str) -> int:
    gid = _number(group)
    if gid is not None:
        return gid
    for fields in groups:
        number = _number(fields[2])
        if fields[0] == group and number is not None:
            return number
    raise Fault(USER, f"unable to find group {group}: no matching entries in group file")


def _records(root_fd: int, path: str, fewest: int) -> list[list[str]]:
    try:
        data = confined.read_file(root_fd, path, _MAX_FILE_BYTES)
    except OSError as error:
        raise Fault(USER, f"{path} in the image: {error.strerror}") from error
    lines = (data or b"").decode("utf-8", "surrogateescape").splitlines()
    records = (line.strip().split(":") for line in lines if line.strip())
    return [fields for fields in records if len(fields) >= fewest]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None
