"""Our file ops as they travel: a chain of actions."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from pybuild.buildkit.llb.copies import is_top, write_copy
from pybuild.buildkit.pb import ops as pb
from pybuild.model.ops import Copy, FileAction, FileOp, Mkdir, Mkfile, Owner, Rm, Symlink

_SECOND_NS = 1_000_000_000
_NONE = -1


def write_file(op: FileOp, numbers: Sequence[int]) -> pb.FileOp:
    """Return the op.

    Args:
        numbers: of the vertex's inputs in the op that is written, -1 for scratch.
    """
    out = pb.FileOp()
    first = max(numbers, default=_NONE) + 1
    actions = list(_with_parents(op))
    for place, action in enumerate(actions):
        written = out.actions.add(
            input=numbers[0] if place == 0 else first + place - 1,
            secondaryInput=numbers[action.input] if isinstance(action, Copy) else _NONE,
            output=0 if place == len(actions) - 1 else _NONE,
        )
        _write(action, written, numbers[0])
    return out


def written_numbers(op: FileOp) -> tuple[int, ...]:
    """Return the number that each action of *op* has as `write_file` writes them."""
    ours = set(map(id, op.actions))
    return tuple(place for place, action in enumerate(_with_parents(op)) if id(action) in ours)


def _with_parents(op: FileOp) -> Iterator[FileAction]:
    """Yield the actions, with one more before each file whose directory has to be made."""
    for action in op.actions:
        if isinstance(action, Mkfile) and action.make_parents and not is_top(action.path):
            parent = posixpath.dirname(action.path)
            yield Mkdir(
                path=parent, owner=action.owner, mtime=action.mtime, mtime_ns=action.mtime_ns
            )
        yield action


def _write(action: FileAction, out: pb.FileAction, base: int) -> None:
    match action:
        case Rm():
            out.rm.path = action.path
            out.rm.allowWildcard = action.wildcard
            out.rm.allowNotFound = action.allow_not_found
            return
        case Copy():
            out.copy.CopyFrom(write_copy(action))
            written: (
                pb.FileActionCopy | pb.FileActionMkDir | pb.FileActionMkFile | pb.FileActionSymlink
            ) = out.copy
        case Mkdir():
            out.mkdir.path = action.path
            out.mkdir.mode = action.mode
            out.mkdir.makeParents = action.make_parents
            written = out.mkdir
        case Mkfile():
            out.mkfile.path = action.path
            out.mkfile.mode = action.mode
            out.mkfile.data = action.data
            written = out.mkfile
        case Symlink():
            out.symlink.newpath = action.path
            out.symlink.oldpath = action.target
            written = out.symlink
    written.timestamp = _NONE
    if action.mtime is not None:
        written.timestamp = action.mtime * _SECOND_NS + action.mtime_ns
    if action.owner is not None:
        written.owner.CopyFrom(_owner(action.owner, base))


def _owner(owner: Owner, base: int) -> pb.ChownOpt:
    out = pb.ChownOpt(user=_id(owner.user, base))
    if owner.group is not None:
        out.group.CopyFrom(_id(owner.group, base))
    return out


def _id(text: str, base: int) -> pb.UserOpt:
    if text.isascii() and text.isdigit():
        return pb.UserOpt(byID=int(text))
    return pb.UserOpt(byName=pb.NamedUserOpt(name=text, input=base))
