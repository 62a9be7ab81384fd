"""A layer's blob in another compression: the same tar, so the same diffID [OUT-10, IMG-10].

Lean: runs in workers.
"""

from __future__ import annotations

from pybuild.image.layer.compression import LayerSource
from pybuild.image.layer.faults import refuse
from pybuild.image.layer.layertar import blob_job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.image.layer.orders import BlobOrder, LayerBlob
    from pybuild.image.layer.pieces import Chunker
    from pybuild.model.border import WorkerCall


def recompress_job(
    call: WorkerCall, path: str, diff_id: str, max_bytes: int, order: BlobOrder
) -> LayerBlob:
    """Read the layer blob *path* and write it anew.

    Args:
        diff_id: the digest of its tar, which has at most *max_bytes*.

    Raises:
        EnvironmentFault: the blob is damaged, too large, or another layer.
    """
    with open(path, "rb", buffering=0) as file:
        source = LayerSource(file.read, max_bytes)

        def produce(out: Chunker) -> None:
            while piece := source.read():
                out.write(piece)
            if source.diff_id != diff_id:
                raise refuse(f"layer {diff_id}: its blob holds {source.diff_id}")

        return blob_job(call, order, produce)
