"""The parts of a client's directories that a definition can read: only they are sent [5.1]."""

from __future__ import annotations

from pybuild.model.ops import Copy, ExecOp, FileOp, LocalSource, Vertex, walk


def used_paths(*targets: Vertex) -> dict[str, tuple[str, ...]]:
    """Return, by local source, the paths that copies and mounts name, sorted, wildcards included.

    An empty tuple is all of it.
    """
    by_source: dict[str, set[str]] = {}
    for vertex in walk(*targets):
        match vertex.op:
            case FileOp(actions=actions):
                paths = [(a.input, a.source) for a in actions if isinstance(a, Copy)]
            case ExecOp(mounts=mounts):
                paths = [(m.input, m.selector) for m in mounts if m.input is not None]
            case _:
                paths = []
        for index, path in paths:
            source = vertex.inputs[index].op
            if isinstance(source, LocalSource):
                by_source.setdefault(source.name, set()).add(path.strip("/"))
    for target in targets:  # a directory that is the result itself
        if isinstance(target.op, LocalSource):
            by_source.setdefault(target.op.name, set()).add("")
    return {name: () if "" in paths else tuple(sorted(paths)) for name, paths in by_source.items()}
