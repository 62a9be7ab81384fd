"""The worker function that deletes trees of other user ids."""

from __future__ import annotations

from pybuild.cache.disk.trees import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def remove(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Delete the tree at ``path``, what is not there is fine; return the bytes ``freed``."""
    return {"freed": remove_tree(args["path"])}
