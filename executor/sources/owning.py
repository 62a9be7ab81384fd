"""The worker function that gives a file to somebody: only workers have the build's ids."""

from __future__ import annotations

import errno
import os

from pybuild.executor.zygote import isolation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def own(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Give ``path``, which is no link, its ``uid``, ``gid`` and ``mode``."""
    try:
        os.chown(args["path"], args["uid"], args["gid"], follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise isolation.unmapped_id(f"owner {args['uid']}:{args['gid']}") from error
        raise
    os.chmod(args["path"], args["mode"])
    return {}
