"""File actions and directories of the client as a worker takes them."""

from __future__ import annotations

from pybuild.executor.files.values import (
    ClientDirectory,
    CopyPath,
    MakeDirectory,
    MakeFile,
    MakeLink,
    OwnerNames,
    RemovePath,
    TreeAction,
)
from pybuild.model.ops import Copy, FileAction, Mkdir, Mkfile, Rm, Symlink
from pybuild.model.snapshot import LocalTree

_SECOND_NS = 1_000_000_000


def encode_local(tree: LocalTree, *, as_it_comes: bool = False) -> ClientDirectory:
    """Return a directory of the client as an input of `apply.apply`.

    Args:
        as_it_comes: what changes while it is read is taken as it was read, and is no fault.
    """
    return ClientDirectory(tree.path, tree.exclude, tree.git_modes, as_it_comes)


def encode_copy(copy: Copy, *, is_scratch: bool) -> CopyPath:
    """Return *copy* for `apply.apply`; *is_scratch* as for `encode_action`."""
    return CopyPath(
        copy.input,
        copy.source,
        copy.dest,
        copy.wildcard,
        copy.allow_empty,
        copy.contents_only,
        copy.unpack or copy.require_unpack,
        copy.follow_source_links,
        copy.parents_pivot,
        copy.make_parents,
        copy.exclude,
        copy.mode,
        *_common(copy, is_scratch),
        copy.replace,
    )


def encode_action(action: FileAction, *, is_scratch: bool) -> TreeAction:
    """Return *action* for `apply.apply`.

    Args:
        is_scratch: it is done on the empty tree, where owner names cannot be looked up [CP-21].
    """
    match action:
        case Copy():
            return encode_copy(action, is_scratch=is_scratch)
        case Mkdir():
            common = _common(action, is_scratch)
            return MakeDirectory(action.path, action.mode, action.make_parents, *common)
        case Mkfile():
            common = _common(action, is_scratch)
            return MakeFile(action.path, action.data, action.mode, action.make_parents, *common)
        case Symlink():
            return MakeLink(action.path, action.target, *_common(action, is_scratch))
        case Rm():
            return RemovePath(action.path, action.wildcard, action.allow_not_found)


def _common(
    action: Copy | Mkdir | Mkfile | Symlink, is_scratch: bool
) -> tuple[OwnerNames | None, int | None, bool]:
    """Return owner, time and place of what an action makes."""
    owner = action.owner
    names = None if owner is None else OwnerNames(owner.user, owner.group)
    when = None if action.mtime is None else action.mtime * _SECOND_NS + action.mtime_ns
    return names, when, is_scratch
