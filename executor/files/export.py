"""Worker functions that write a snapshot's tree outside the store [OUT-5, OUT-6].

Lean: runs in a child of the zygote, which has a mount namespace of its own and the powers over
files that a user namespace gives.
"""

from __future__ import annotations

import os

from pybuild.executor.zygote.copied.views import view
from pybuild.image.layer.ownership import OwnershipNotes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.executor.files.values import ExportTree
    from pybuild.image.layer.orders import BlobOrder, LayerBlob
    from pybuild.model.border import WorkerCall


def layer_job(
    call: WorkerCall, tree: ExportTree, order: BlobOrder, *, clamp_mtime: int | None = None
) -> LayerBlob:
    """Make the layer blob of a patch and the delta that it changes: of one tree, as both hide nothing."""
    from pybuild.image.layer import layertar

    path = _mount(tree)
    return layertar.layer_job(call, path, order, userxattr=tree.userxattr, clamp_mtime=clamp_mtime)


def local_job(call: WorkerCall, trees: Sequence[ExportTree], *, replaces: bool) -> None:
    """Copy each of *trees* into its directory, of those handed over.

    With *replaces* what a tree does not have goes, and where the trees have a folder each, all else
    from the first directory, which holds those.

    Raises:
        UserError: two trees go to the same place and have the same file [OUT-5].
    """
    from pybuild.image.layer.confined import at
    from pybuild.image.layer.treecopy import copy_tree, keep_only

    if len({tree.dest for tree in trees}) < len(trees):
        _refuse_overlap(trees)
    for tree in trees:
        dest = at(call.fds[tree.dest])
        copy_tree(_mount(tree), dest, epoch=tree.epoch, ledger=_ledger(tree), replaces=replaces)
        if tree.epoch is not None and tree.stamp:
            os.utime(dest, (tree.epoch, tree.epoch))
    if replaces and trees[0].folder:
        keep_only(at(call.fds[0]), [tree.folder for tree in trees])


def tar_job(call: WorkerCall, trees: Sequence[ExportTree]) -> None:
    """Write *trees* as a tar to the descriptor handed over, each below its prefix."""
    from pybuild.image.layer.pieces import Chunker
    from pybuild.image.layer.treecopy import trees_tar
    from pybuild.image.layer.writing import write_all

    out = Chunker.into(lambda data: write_all(call.fds[0], data))
    ledgers = {tree.prefix: ledger for tree in trees if (ledger := _ledger(tree))}
    # Mounted one after the other, perhaps on top of each other.
    roots = ((tree.prefix, _mount(tree), tree.epoch) for tree in trees)
    trees_tar(roots, out, userxattr=trees[0].userxattr, ledgers=ledgers)


def _refuse_overlap(trees: Sequence[ExportTree]) -> None:
    from pybuild.image.layer.faults import reject
    from pybuild.image.layer.treecopy import leaf_paths

    seen: dict[tuple[int, bytes], str] = {}
    for tree in trees:
        for path in leaf_paths(_mount(tree)):
            before = seen.setdefault((tree.dest, path), tree.name)
            if before != tree.name:
                raise reject(
                    f"cannot overwrite {os.fsdecode(path)} from {before} with {tree.name} "
                    "when split option is disabled",
                    "leave platform-split=false away",
                )


def _ledger(tree: ExportTree) -> OwnershipNotes | None:
    """Return the notes about a tree's files; only in a user namespace may there be any."""
    return OwnershipNotes(tree.lowers) if tree.userxattr else None


def _mount(tree: ExportTree) -> str:
    """Show the tree where only this process sees it; it goes with the process."""
    return view(tree.mount_dir, tree.lowers, userxattr=tree.userxattr)
