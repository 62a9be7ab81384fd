"""The worker function that digests selections of a snapshot."""

from __future__ import annotations

import sys

from pybuild.executor.files.apply import Mounts
from pybuild.executor.trees.treehash import NotFound, tree_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_DEEP = 20_000


def digest(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Digest one selection of the tree of ``deltas`` (base first), mounted on ``mount_dir``.

    Returns ``digest`` and ``entries``, or ``missing``: the path that is not there.
    """
    sys.setrecursionlimit(_DEEP)
    with (
        Mounts(args["mount_dir"], args.get("userxattr")) as mounts,
        mounts.tree({"deltas": args["deltas"]}) as tree,
    ):
        try:
            value, entries = tree_digest(tree, args["selection"])
        except NotFound as missing:
            return {"missing": missing.path}
    return {"digest": value, "entries": entries}
