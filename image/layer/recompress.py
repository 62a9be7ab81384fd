"""A layer's blob in another compression: the same tar, so the same diffID [OUT-10, IMG-10].

Lean: runs in workers.
"""

from __future__ import annotations

from pybuild.image.layer.compression import LayerSource
from pybuild.image.layer.faults import refuse
from pybuild.image.layer.layertar import blob_job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pybuild.image.layer.pieces import Chunker


def recompress_job(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Read the layer blob ``path`` and write it to ``out`` as `blob_job` says.

    Args:
        args: also ``diff_id``, what the tar must have; ``max_bytes`` of it.

    Raises:
        EnvironmentFault: the blob is damaged, too large, or another layer.
    """
    with open(args["path"], "rb", buffering=0) as file:
        source = LayerSource(file.read, args["max_bytes"])

        def produce(out: Chunker) -> None:
            while piece := source.read():
                out.write(piece)
            if source.diff_id != args["diff_id"]:
                raise refuse(f"layer {args['diff_id']}: its blob holds {source.diff_id}")

        return blob_job(args, progress, produce)
