"""Copies, there and back."""

from __future__ import annotations

from collections.abc import Iterator

from pybuild.buildkit.llb import fields
from pybuild.buildkit.llb.graph import Entry
from pybuild.buildkit.pb import ops as pb
from pybuild.frontend.lowering import paths
from pybuild.model.ops import Copy, Owner

_OCTAL = frozenset("01234567")
_KEPT = -1


def read_copy(
    entry: Entry, received: pb.FileActionCopy, source: int, owner: Owner | None
) -> Iterator[Copy]:
    """Yield the copies that one action asks for: one a pattern, where it has patterns.

    Args:
        source: the vertex's input to copy from.

    Raises:
        UserError: it asks for what we do not have.
    """
    replace = received.alwaysReplaceExistingDestPaths
    root = fields.path(received.src, "a copy's source")
    mode = _mode(received)
    mtime, mtime_ns = fields.moment(received.timestamp)
    dest = paths.destination("/", fields.text(received.dest, "a copy's destination"))
    make_parents = received.createDestPath or is_top(dest)
    exclude = fields.texts(received.exclude_patterns, "a pattern")
    required = {fields.path(path, "a copy") for path in received.required_paths}
    if received.include_patterns:
        if (
            not (received.dirCopyContents or root == "/")
            or received.attemptUnpackDockerCompatibility
        ):
            raise entry.wrong("patterns of a copy that is not of a directory's content")
        for pattern in received.include_patterns:
            if pattern.startswith("!"):
                raise entry.wrong(f'the pattern "{pattern}" of a copy is not supported')
            path = paths.clean(f"{root}/{fields.text(pattern, 'a pattern')}")
            may_be_missing = path not in required
            required.discard(path)
            yield Copy(
                input=source,
                source=path,
                dest=dest,
                wildcard=may_be_missing,
                allow_empty=may_be_missing,
                follow_source_links=received.followSymlink,
                parents_pivot=paths.components(root),
                make_parents=make_parents,
                replace=replace,
                exclude=exclude,
                mode=mode,
                owner=owner,
                mtime=mtime,
                mtime_ns=mtime_ns,
            )
    else:
        wildcard = received.allowWildcard and paths.has_wildcard(root)
        if not wildcard:
            required.discard(root)
        yield Copy(
            input=source,
            source=root,
            dest=dest,
            wildcard=wildcard,
            allow_empty=wildcard and received.allowEmptyWildcard,
            contents_only=received.dirCopyContents,
            unpack=received.attemptUnpackDockerCompatibility,
            follow_source_links=received.followSymlink,
            make_parents=make_parents,
            replace=replace,
            exclude=exclude,
            mode=mode,
            owner=owner,
            mtime=mtime,
            mtime_ns=mtime_ns,
        )
    if required:
        raise entry.wrong(f'a copy that requires "{min(required)}" is not supported')


def is_top(path: str) -> bool:
    """Whether nothing but the root is above *path*, so that it does not matter who makes that."""
    return paths.components(path) < 2


def _mode(received: pb.FileActionCopy) -> int | str | None:
    text = fields.text(received.modeStr, "a mode")
    if text:
        if len(text) < 12 and set(text) <= _OCTAL:
            return fields.mode(int(text, 8), "a copy")
        return text
    return None if received.mode == _KEPT else fields.mode(received.mode, "a copy")


def write_copy(op: Copy) -> pb.FileActionCopy:
    """Return the action without its owner."""
    copy = pb.FileActionCopy(
        src=op.source,
        dest=op.dest,
        mode=op.mode if isinstance(op.mode, int) else (_KEPT if op.mode is None else 0),
        modeStr=op.mode if isinstance(op.mode, str) else "",
        followSymlink=op.follow_source_links,
        dirCopyContents=op.contents_only,
        attemptUnpackDockerCompatibility=op.unpack or op.require_unpack,
        createDestPath=op.make_parents,
        alwaysReplaceExistingDestPaths=op.replace,
        allowWildcard=op.wildcard,
        allowEmptyWildcard=op.wildcard and op.allow_empty,
        exclude_patterns=op.exclude,
    )
    if op.parents_pivot is not None:
        parts = [part for part in op.source.split("/") if part]
        root, rest = parts[: op.parents_pivot], parts[op.parents_pivot :]
        copy.src = "/" + "/".join(root)
        copy.allowWildcard = paths.has_wildcard(copy.src)
        copy.allowEmptyWildcard = copy.allowWildcard
        if rest:
            copy.include_patterns.append("/".join(rest))
            if not op.wildcard:
                copy.required_paths.append(op.source)
    return copy
