"""The worker function that measures trees of other user ids."""

from __future__ import annotations

from pybuild.cache.disk.extent import extent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def measure(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Return the space of the tree at ``path`` on the disk: ``size``, ``alone``; see `Extent`."""
    found = extent(args["path"])
    return {"size": found.size, "alone": found.alone}
