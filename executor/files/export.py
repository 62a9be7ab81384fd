"""Worker functions that write a snapshot's tree outside the store [OUT-5, OUT-6].

Lean: runs in a child of the zygote, which has a mount namespace of its own and the powers over
files that a user namespace gives.
"""

from __future__ import annotations

import os

from pybuild.executor.zygote.copied.views import view
from pybuild.image.layer.ownership import Ledger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def layer_job(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Make the layer blob of a patch and the delta that it changes: of one tree, as both hide nothing.

    Args:
        args: as `image.layer.layertar.layer_job` has them, with what `_mount` needs in place of ``path``.
    """
    from pybuild.image.layer import layertar

    return layertar.layer_job({**args, "path": _mount(args)}, fds, progress)


def local_job(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Copy each of ``trees`` into its directory, number ``dest`` of those handed over.

    A tree has ``lowers`` (base first), ``dest``, ``name`` for messages, and what `_mount` needs;
    ``epoch`` is the time that all of it gets, or None, and with ``stamp`` ``dest`` itself. With
    ``replaces`` what a tree does not have goes, and where the trees have a ``folder`` each, all else
    from the first directory, which holds those.

    Raises:
        UserError: two trees go to the same place and have the same file [OUT-5].
    """
    from pybuild.image.layer.confined import at
    from pybuild.image.layer.treecopy import copy_tree, keep_only

    replaces = bool(args.get("replaces"))
    trees: list[dict[str, Any]] = args["trees"]
    if len({tree["dest"] for tree in trees}) < len(trees):
        _refuse_overlap(trees)
    for tree in trees:
        epoch = tree.get("epoch")
        number: int = tree["dest"]
        dest = at(fds[number])
        copy_tree(_mount(tree), dest, epoch=epoch, ledger=_ledger(tree), replaces=replaces)
        if epoch is not None and tree["stamp"]:
            os.utime(dest, (epoch, epoch))
    if replaces and trees[0]["folder"]:
        keep_only(at(fds[0]), [tree["folder"] for tree in trees])
    return {}


def tar_job(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Write ``trees`` as a tar to the descriptor handed over, each below its ``prefix``."""
    from pybuild.image.layer.compression import write_all
    from pybuild.image.layer.pieces import Chunker
    from pybuild.image.layer.treecopy import trees_tar

    fd = fds[0]
    trees: list[dict[str, Any]] = args["trees"]

    out = Chunker.into(lambda data: write_all(fd, data))
    ledgers = {tree.get("prefix", ""): ledger for tree in trees if (ledger := _ledger(tree))}
    # Mounted one after the other, perhaps on top of each other.
    roots = ((tree.get("prefix", ""), _mount(tree), tree.get("epoch")) for tree in trees)
    trees_tar(roots, out, userxattr=trees[0]["userxattr"], ledgers=ledgers)
    return {}


def _refuse_overlap(trees: list[dict[str, Any]]) -> None:
    from pybuild.image.layer.faults import reject
    from pybuild.image.layer.treecopy import leaf_paths

    seen: dict[tuple[int, bytes], str] = {}
    for tree in trees:
        for path in leaf_paths(_mount(tree)):
            before = seen.setdefault((tree["dest"], path), tree["name"])
            if before != tree["name"]:
                raise reject(
                    f"cannot overwrite {os.fsdecode(path)} from {before} with {tree['name']} "
                    "when split option is disabled",
                    "leave platform-split=false away",
                )


def _ledger(tree: dict[str, Any]) -> Ledger | None:
    """Return the notes about a tree's files; only in a user namespace may there be any."""
    return Ledger(tree["lowers"]) if tree["userxattr"] else None


def _mount(args: dict[str, Any]) -> str:
    """Show the tree where only this process sees it; it goes with the process."""
    return view(args["mount_dir"], args["lowers"], userxattr=args["userxattr"])
