"""File actions as the plain data that a worker takes."""

from __future__ import annotations

from typing import Any

from pybuild.model.ops import Copy, FileAction, Mkdir, Mkfile, Owner, Rm, Symlink
from pybuild.model.snapshot import LocalTree

_SECOND_NS = 1_000_000_000


def encode_local(tree: LocalTree, *, as_it_comes: bool = False) -> dict[str, Any]:
    """Return a directory of the client as an input of `apply.apply`.

    Args:
        as_it_comes: what changes while it is read is taken as it was read, and is no fault.
    """
    found = {"local": tree.path, "exclude": list(tree.exclude), "git_modes": tree.git_modes}
    return {**found, "as_it_comes": True} if as_it_comes else found


def encode_action(action: FileAction, *, is_scratch: bool) -> dict[str, Any]:
    """Return *action* for `apply.apply`.

    Args:
        is_scratch: it is done on the empty tree, where owner names cannot be looked up [CP-21].
    """
    if isinstance(action, Rm):
        return {
            "type": "Rm",
            "path": action.path,
            "wildcard": action.wildcard,
            "allow_not_found": action.allow_not_found,
        }
    common: dict[str, Any] = {
        "type": type(action).__name__,
        "owner": _owner(action.owner),
        "is_scratch": is_scratch,
        "mtime_ns": None if action.mtime is None else action.mtime * _SECOND_NS,
    }
    match action:
        case Mkdir():
            return {
                **common,
                "path": action.path,
                "mode": action.mode,
                "make_parents": action.make_parents,
            }
        case Mkfile():
            return {
                **common,
                "path": action.path,
                "data": action.data,
                "mode": action.mode,
                "make_parents": action.make_parents,
            }
        case Symlink():
            return {**common, "path": action.path, "target": action.target}
        case Copy():
            return {
                **common,
                "input": action.input,
                "source": action.source,
                "dest": action.dest,
                "wildcard": action.wildcard,
                "allow_empty": action.allow_empty,
                "contents_only": action.contents_only,
                "unpack": action.unpack or action.require_unpack,
                "follow_source_links": action.follow_source_links,
                "parents_pivot": action.parents_pivot,
                "make_parents": action.make_parents,
                "exclude": list(action.exclude),
                "mode": action.mode,
            }


def _owner(owner: Owner | None) -> dict[str, Any] | None:
    return None if owner is None else {"user": owner.user, "group": owner.group}
