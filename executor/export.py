"""Worker functions that write a snapshot's tree outside the store [OUT-5, OUT-6].

Lean: runs in a child of the zygote, which has a mount namespace of its own and the powers over
files that a user namespace gives.
"""

from __future__ import annotations

import os

from pybuild.executor.zygote.overlay import mount_overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def local_job(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Copy the tree of ``lowers`` (base first) into the directory ``dest``."""
    from pybuild.image.export_fs import copy_tree

    return dict(copy_tree(_mount(args), args["dest"], epoch=args.get("epoch")))


def tar_job(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Write the tree of ``lowers`` as a tar to the descriptor handed over."""
    from pybuild.image.export_fs import tree_tar

    out = fds[0]

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(out, view) :]

    tree_tar(_mount(args), write, epoch=args.get("epoch"), userxattr=args["userxattr"])
    return {}


def _mount(args: dict[str, Any]) -> str:
    """Mount the tree where only this process sees it; it goes with the process."""
    target: str = args["mount_dir"]
    mount_overlay(target, args["lowers"], None, None, userxattr=args["userxattr"])
    return target
