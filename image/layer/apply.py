"""From a layer tar to a delta directory: what an overlay upper directory would hold [IMG-12..17].

Whiteouts become character devices 0:0 and opaque markers become attributes, so nothing below is
touched and one unpacked layer serves every image that has it. Only where a layer leaves something
out (the entry of a parent directory, the target of a hard link) are the layers below asked.
"""

from __future__ import annotations

import os

from pybuild.image.layer import confined
from pybuild.image.layer.compression import LayerSource
from pybuild.image.layer.deltawriter import Delta, NeedsLowers
from pybuild.image.layer.descent import OPEN_DIR
from pybuild.image.layer.faults import refuse, shown
from pybuild.image.layer.forkedsource import ForkedSource
from pybuild.image.layer.growingfile import Growing
from pybuild.image.layer.orders import LowersMissing, UnpackedLayer
from pybuild.image.layer.tarreader import TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybuild.image.layer.orders import UnpackOrder
    from pybuild.model.border import WorkerCall

__all__ = ["NeedsLowers", "apply_job", "apply_layer"]

_NO_ROOM = "the disk of the store has room for no more: pybuild prune, or another one with --root"


def apply_layer(
    stream: Callable[[], bytes | memoryview],
    root_dir: str,
    *,
    userxattr: bool,
    lowers: Sequence[str] | None,
    record_owners: bool = False,
) -> None:
    """Unpack the layer tar from *stream* into the empty directory *root_dir*.

    Args:
        stream: returns the next piece of the uncompressed tar, nothing at its end. What follows
            the end of the archive is left unread.
        lowers: delta directories below, base first; empty for a base layer; None: not known.
        record_owners: note owners and devices beside the files: the user namespace has one id.

    Raises:
        NeedsLowers: *lowers* is None and the layer refers to what is below.
        EnvironmentFault: the archive is damaged, or something no layer may contain.
    """
    delta = Delta(root_dir, userxattr=userxattr, lowers=lowers, record_owners=record_owners)
    try:
        reader = TarReader(stream)
        while (member := reader.next()) is not None:
            try:
                delta.add(member, reader)
            except OSError as error:
                raise refuse(
                    f"cannot unpack {shown(member.name)}: {error.strerror or error}"
                ) from error
            except (ValueError, OverflowError) as error:
                raise refuse(f"cannot unpack {shown(member.name)}: {error}") from error
        delta.finish()
    finally:
        delta.close()


def apply_job(call: WorkerCall, order: UnpackOrder) -> UnpackedLayer | LowersMissing:
    """Unpack a layer blob into a directory, checking its digests in the same pass.

    The target is empty again after an error, and where lowers are missing.
    """
    fds = call.fds
    blob = os.dup(fds[0]) if fds else os.open(order.blob, os.O_RDONLY | os.O_CLOEXEC)

    def opened() -> LayerSource:
        read: Callable[[int], bytes] = lambda size: os.read(blob, size)
        if len(fds) > 1 and order.size is not None:
            read = Growing(blob, fds[1], order.size).read
        is_compared = order.digest is not None
        return LayerSource(read, order.max_bytes, _NO_ROOM, digests_blob=is_compared)

    apart: ForkedSource | None = None
    try:
        if order.apart:
            apart = ForkedSource(opened, [blob, *fds[1:]])
        source = apart or opened()
        apply_layer(
            source.read,
            order.target,
            userxattr=order.userxattr,
            lowers=order.lowers,
            record_owners=order.record_owners,
        )
        source.drain()
        _compare(order, source)
    except BaseException as error:
        _empty(order.target)
        if isinstance(error, NeedsLowers):
            return LowersMissing(str(error))
        raise
    finally:
        if apart is not None:
            apart.close()
        os.close(blob)
    return UnpackedLayer(source.diff_id, source.size)


def _compare(order: UnpackOrder, source: LayerSource | ForkedSource) -> None:
    read_bytes = source.compressed_size
    if order.size is not None and order.size != read_bytes:
        raise refuse(f"layer blob has {read_bytes} bytes, expected {order.size}")
    for name, expected, actual in (
        ("layer blob", order.digest, source.digest),
        ("uncompressed layer", order.diff_id, source.diff_id),
    ):
        if expected is not None and expected != actual:
            raise refuse(f"{name} {expected}: got {actual} after {read_bytes} bytes")


def _empty(target: str) -> None:
    fd = os.open(target, OPEN_DIR)
    try:
        confined.empty(fd)
        own = [n for n in os.listxattr(fd) if n.startswith(("user.", "trusted.overlay."))]
        for name in own:
            os.removexattr(fd, name)
    finally:
        os.close(fd)
