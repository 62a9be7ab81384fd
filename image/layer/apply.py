"""From a layer tar to a delta directory: what an overlay upper directory would hold [IMG-12..17].

Whiteouts become character devices 0:0 and opaque markers become attributes, so nothing below is
touched and one unpacked layer serves every image that has it. Only where a layer leaves something
out (the entry of a parent directory, the target of a hard link) are the layers below asked.
"""

from __future__ import annotations

import os

from pybuild.image.layer import confined
from pybuild.image.layer.attributes import OPEN_DIR
from pybuild.image.layer.compression import LayerSource
from pybuild.image.layer.deltawriter import Delta, NeedsLowers
from pybuild.image.layer.faults import refuse, shown
from pybuild.image.layer.forkedsource import ForkedSource
from pybuild.image.layer.growingfile import Growing
from pybuild.image.layer.tarreader import TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["NeedsLowers", "apply_job", "apply_layer"]

_NO_ROOM = "the disk of the store has room for no more: pybuild prune, or another one with --root"


def apply_layer(
    stream: Callable[[], bytes | memoryview],
    root_dir: str,
    *,
    userxattr: bool,
    lowers: list[str] | None,
    record_owners: bool = False,
) -> dict[str, int]:
    """Unpack the layer tar from *stream* into the empty directory *root_dir*.

    Args:
        stream: returns the next piece of the uncompressed tar, nothing at its end. What follows
            the end of the archive is left unread.
        lowers: delta directories below, base first; empty for a base layer; None: not known.
        record_owners: note owners and devices beside the files: the user namespace has one id.

    Returns counts: ``entries``, ``bytes`` of content and ``xattrs_skipped``
    (what a user namespace or the file system did not allow).

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
    return delta.stats


def apply_job(
    args: dict[str, Any], fds: list[int], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Unpack a layer blob into a directory, checking its digests in the same pass.

    Args:
        args: ``blob``, a path, or else the first of *fds*; ``target``, an existing empty directory;
            ``userxattr``; ``lowers`` or None; ``diff_id`` and ``digest``, checked where given;
            ``size`` of the blob, checked where given; ``max_bytes`` uncompressed, or None;
            ``record_owners``; ``apart``: decompress in a process of its own. ``media_type`` is
            accepted and not believed.
        fds: two: the blob and what tells that it grows, see `Growing`.

    Returns ``{"diff_id", "size", "needs_lowers", …counts}``, *size* being that of the
    uncompressed tar. Where ``needs_lowers`` is true nothing else is there and the target is empty
    again, as it also is after an error.
    """
    target = args["target"]
    blob = os.dup(fds[0]) if fds else os.open(args["blob"], os.O_RDONLY | os.O_CLOEXEC)

    def opened() -> LayerSource:
        read: Callable[[int], bytes] = lambda size: os.read(blob, size)
        if len(fds) > 1:
            read = Growing(blob, fds[1], args["size"]).read
        checked = args.get("digest") is not None
        return LayerSource(read, args.get("max_bytes"), _NO_ROOM, digests_blob=checked)

    apart: ForkedSource | None = None
    try:
        if args.get("apart"):
            apart = ForkedSource(opened, [blob, *fds[1:]])
        source = apart or opened()
        stats = apply_layer(
            source.read,
            target,
            userxattr=bool(args.get("userxattr")),
            lowers=args.get("lowers"),
            record_owners=bool(args.get("record_owners")),
        )
        source.drain()
        _compare(args, source)
    except BaseException as error:
        _empty(target)
        if isinstance(error, NeedsLowers):
            return {"needs_lowers": True, "path": str(error)}
        raise
    finally:
        if apart is not None:
            apart.close()
        os.close(blob)
    return {"diff_id": source.diff_id, "size": source.size, "needs_lowers": False, **stats}


def _compare(args: dict[str, Any], source: LayerSource | ForkedSource) -> None:
    size = args.get("size")
    if size is not None and size != source.compressed_size:
        raise refuse(f"layer blob has {source.compressed_size} bytes, expected {size}")
    for what, found in (("digest", source.digest), ("diff_id", source.diff_id)):
        expected = args.get(what)
        if expected is not None and expected != found:
            name = "layer blob" if what == "digest" else "uncompressed layer"
            raise refuse(f"{name} {expected}: got {found} after {source.compressed_size} bytes")


def _empty(target: str) -> None:
    fd = os.open(target, OPEN_DIR)
    try:
        confined.empty(fd)
        own = [n for n in os.listxattr(fd) if n.startswith(("user.", "trusted.overlay."))]
        for name in own:
            os.removexattr(fd, name)
    finally:
        os.close(fd)
