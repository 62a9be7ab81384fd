"""From a delta directory to a layer tar, the same bytes whenever the tree is the same [REP-4].

Order: depth first, names by their bytes, a directory before what it holds; inside a directory the
opaque marker comes first, then the whiteouts, then the rest. Like containerd's differ this leaves
the root directory itself out, cuts times to whole seconds (a PAX record for every file that a step
touched would double the headers, and peers' digests of equal trees could never agree), and gives
whiteouts no time at all [REP-5]. Directories are walked with two open descriptors at any depth.
"""

from __future__ import annotations

import os
import stat

from pybuild.image.layer import overlayfs, ownership, tarformat
from pybuild.image.layer.blobsink import BlobSink
from pybuild.image.layer.descent import OPEN_DIR, step
from pybuild.image.layer.faults import MOST_PATH_BYTES, refuse, reject, shown, too_deep
from pybuild.image.layer.orders import LayerBlob
from pybuild.image.layer.pieces import SMALL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pybuild.image.layer.orders import BlobOrder
    from pybuild.image.layer.pieces import Chunker
    from pybuild.model.border import WorkerCall

IMPORTED_LATER = {"layer_job": ("isal.isal_zlib",)}  # most layers are compressed by it
_DEVICES = (tarformat.CHAR, tarformat.BLOCKDEV)
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def write_layer(
    root_dir: str,
    out: Chunker,
    *,
    userxattr: bool,
    clamp_mtime: int | None = None,
) -> None:
    """Write the layer tar of the delta in *root_dir*.

    Args:
        out: is given the archive, and ended.
        userxattr: overlayfs' attributes are ``user.overlay.*``, as in user namespaces.
        clamp_mtime: later modification times become this one, in seconds [REP-3].

    Raises:
        UserError: a file is named ``.wh.…``, which an image cannot hold [IMG-12].
        EnvironmentFault: the delta has redirects or metadata-only copies, or changes meanwhile.
    """
    walk = _Walk(out, overlayfs.namespace(userxattr), delta=True, clamp=clamp_mtime)
    if userxattr:
        walk.ledger = ownership.OwnershipNotes([root_dir])
    walk.run(root_dir)
    walk.end()


def write_trees(
    roots: Iterable[tuple[str, str, int | None]],
    out: Chunker,
    *,
    userxattr: bool,
    ledgers: dict[str, ownership.OwnershipNotes] | None = None,
) -> None:
    """Write a plain tar of finished trees: no whiteouts, no markers.

    Args:
        roots: the directory of the archive that a tree becomes, or none; where it lies, which is
            opened when the one before is done; the modification time of everything, in seconds,
            or None.
        out: is given the archive, and ended.
        ledgers: by prefix, what is noted about a tree; filled at the latest when the tree is.
    """
    walk = _Walk(out, overlayfs.namespace(userxattr), delta=False)
    for prefix, root_dir, mtime in roots:
        if userxattr:
            walk.ledger = (ledgers or {}).get(prefix) or ownership.OwnershipNotes()
        walk.run(root_dir, os.fsencode(prefix), mtime)
    walk.end()


def layer_job(
    call: WorkerCall,
    path: str,
    order: BlobOrder,
    *,
    userxattr: bool = False,
    clamp_mtime: int | None = None,
) -> LayerBlob:
    """Make a layer blob of the delta at *path* in one pass: tar, digest, compressor, digest, file.

    Args:
        clamp_mtime: later times become this one.

    Tells the uncompressed bytes so far now and then.
    """

    def produce(out: Chunker) -> None:
        write_layer(path, out, userxattr=userxattr, clamp_mtime=clamp_mtime)

    return blob_job(call, order, produce)


def blob_job(call: WorkerCall, order: BlobOrder, produce: Callable[[Chunker], None]) -> LayerBlob:
    """Write what *produce* makes as a blob."""
    if order.nice:
        os.nice(order.nice)  # a worker does one job
    if order.compression == "estargz":
        from pybuild.image.layer import estargz

        return estargz.pack(order.out, order.level, produce, call.progress)
    fd = os.open(order.out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with BlobSink(fd, order.compression, order.level, tell=call.progress) as sink:
            produce(sink)
            diff_id, digest = sink.finish()
    except BaseException:
        os.unlink(order.out)
        raise
    finally:
        os.close(fd)
    return LayerBlob(diff_id, digest, sink.size, sink.uncompressed_size, {})


class _Walk:
    def __init__(
        self,
        out: Chunker,
        own: str,
        *,
        delta: bool,
        clamp: int | None = None,
    ) -> None:
        self._out = out
        self._own = own
        self._clamp = clamp
        self._mtime: int | None = None
        self._delta = delta
        self.ledger: ownership.OwnershipNotes | None = None
        """The notes about the tree; only in a user namespace may there be any."""
        self._noted = False  # whether deletions may be files with a note
        self._links: dict[tuple[int, int], bytes] = {}

    def run(self, root_dir: str, prefix: bytes = b"", mtime: int | None = None) -> None:
        """Write what is in *root_dir*, below the directory *prefix* if there is one."""
        self._links.clear()
        self._mtime = mtime
        top = b""
        if prefix:
            top = prefix + b"/"
            self._out.write(
                tarformat.entry(top, tarformat.DIRECTORY, mode=0o755, mtime=self._mtime or 0)
            )
        fd = os.open(root_dir, OPEN_DIR)
        self._noted = overlayfs.is_overlay(fd)
        try:
            xattrs = os.listxattr(fd)
            levels: list[tuple[bytes, list[tuple[bytes, bool]], int]] = [
                (top, self._list(fd, top, self._is_opaque(fd, xattrs)), os.fstat(fd).st_ino)
            ]
            while levels:
                prefix, names, _ = levels[-1]
                if not names:
                    levels.pop()
                    if levels:
                        fd = step(fd, b"..")
                        if os.fstat(fd).st_ino != levels[-1][2]:
                            raise refuse(f"{shown(prefix)} was moved while it was archived")
                    continue
                name, is_file = names.pop()
                path = prefix + name
                if is_file and self.ledger is None:
                    self._file(fd, name, path)
                    continue
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    self._leaf(fd, name, path, status)
                    continue
                if len(path) > MOST_PATH_BYTES:
                    raise too_deep(path)
                fd = step(fd, name)
                listed = os.listxattr(fd)
                if self.ledger is not None and ownership.OWNER in listed:
                    status = ownership.amended(status, ownership.read_owner(fd))
                self._put(path + b"/", tarformat.DIRECTORY, status, xattrs=self._xattrs(fd, listed))
                path += b"/"
                inner = self._list(fd, path, self._is_opaque(fd, listed))
                levels.append((path, inner, status.st_ino))
        finally:
            os.close(fd)

    def end(self) -> None:
        self._out.write(tarformat.END)
        self._out.end()

    def _list(self, fd: int, prefix: bytes, opaque: bool) -> list[tuple[bytes, bool]]:
        """Write the directory's markers; return the rest, last first: names, whether it is a file."""
        rest: list[tuple[bytes, bool]] = []
        deleted: list[bytes] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name.encode("utf-8", "surrogateescape")
                is_file = entry.is_file(follow_symlinks=False)
                if self._delta:
                    if name.startswith(overlayfs.WHITEOUT_PREFIX):
                        raise reject(
                            f"{shown(prefix + name)} cannot be stored in an image: "
                            'names that begin with ".wh." mean deletion there',
                            "remove or rename it in the step that makes it",
                        )
                    # The type comes with the listing; only what may be a deletion costs a stat.
                    if (not is_file or self._noted) and self._is_gone(fd, name, entry):
                        deleted.append(name)
                        continue
                rest.append((name, is_file))
        if opaque:
            self._out.write(tarformat.entry(prefix + overlayfs.OPAQUE_NAME, tarformat.REGULAR))
        for name in sorted(deleted):
            whiteout = prefix + overlayfs.WHITEOUT_PREFIX + name
            self._out.write(tarformat.entry(whiteout, tarformat.REGULAR))
        rest.sort(reverse=True)
        return rest

    def _is_gone(self, fd: int, name: bytes, entry: os.DirEntry[str]) -> bool:
        if entry.is_dir(follow_symlinks=False) or entry.is_symlink():
            return False
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        return overlayfs.is_whiteout(status, fd, name, noted=self._noted)

    def _is_opaque(self, fd: int, listed: list[str]) -> bool:
        """Read a directory's overlay attributes; refuse what only the kernel could resolve."""
        if not self._delta or not listed:
            return False
        self._check(listed)
        return overlayfs.is_opaque(fd, self._own, noted=self._noted)

    def _check(self, listed: list[str]) -> None:
        for word in ("redirect", "metacopy", "whiteout"):
            if self._own + word in listed:
                raise refuse(
                    f"snapshot has the attribute {self._own}{word}: it cannot become a layer",
                    "it was written by an overlay with redirect_dir, metacopy or xattr whiteouts",
                )

    def _leaf(self, fd: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        if self.ledger is not None:
            status = self.ledger.view(fd, name, status)
        mode = status.st_mode
        if stat.S_ISSOCK(mode):
            return
        if status.st_nlink > 1 and self._is_linked(path, status):
            return
        if stat.S_ISREG(mode):
            self._file(fd, name, path, status)
        elif stat.S_ISLNK(mode):
            self._put(path, tarformat.SYMLINK, status, link=os.readlink(name, dir_fd=fd))
        elif stat.S_ISFIFO(mode):
            self._put(path, tarformat.FIFO, status)
        elif stat.S_ISCHR(mode):
            self._put(path, tarformat.CHAR, status)
        elif stat.S_ISBLK(mode):
            self._put(path, tarformat.BLOCKDEV, status)
        else:
            raise refuse(f"{shown(path)} has an unknown file type {stat.S_IFMT(mode):o}")

    def _is_linked(self, path: bytes, status: os.stat_result) -> bool:
        """Write a hard link if the file has come before by another name."""
        first = self._links.setdefault((status.st_dev, status.st_ino), path)
        if first is path:
            return False
        self._put(path, tarformat.HARDLINK, status, link=first)
        return True

    def _file(
        self, dir_fd: int, name: bytes, path: bytes, status: os.stat_result | None = None
    ) -> None:
        """Write a file; what is not known of it is asked of it, which is cheaper than of its name."""
        fd = os.open(name, _OPEN_FILE, dir_fd=dir_fd)
        try:
            if status is None:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise refuse(f"{shown(path)} changed while it was archived")
                if status.st_nlink > 1 and self._is_linked(path, status):
                    return
            listed = os.listxattr(fd)
            if listed and self._delta:
                self._check(listed)
            xattrs = self._xattrs(fd, listed) if listed else None
            size = status.st_size
            head = self._header(path, tarformat.REGULAR, status, size, b"", xattrs)
            if size < SMALL:
                # In one go: of many small files, what is done for each is all the time it takes.
                data = os.read(fd, size)
                while len(data) < size and (piece := os.read(fd, size - len(data))):
                    data += piece  # a network's file system may give less than there is
                self._out.write(head + data + tarformat.padding(size))
                is_whole = len(data) == size
            else:
                self._out.write(head)
                is_whole = self._out.read_from(fd, size)
                self._out.write(tarformat.padding(size))
            if not is_whole:
                raise refuse(f"{shown(path)} changed while it was archived")
        finally:
            os.close(fd)

    def _xattrs(self, fd: int, listed: list[str]) -> dict[str, bytes]:
        kept = overlayfs.to_image(listed, self._own)
        return {name: os.getxattr(fd, disk) for disk, name in kept}

    def _put(
        self,
        path: bytes,
        kind: bytes,
        status: os.stat_result,
        *,
        link: bytes = b"",
        xattrs: dict[str, bytes] | None = None,
    ) -> None:
        self._out.write(self._header(path, kind, status, 0, link, xattrs))

    def _header(
        self,
        path: bytes,
        kind: bytes,
        status: os.stat_result,
        size: int,
        link: bytes,
        xattrs: dict[str, bytes] | None,
    ) -> bytes:
        mtime = self._mtime
        if mtime is None:
            mtime = int(status[stat.ST_MTIME])  # whole seconds, rounded down
        if self._clamp is not None and mtime > self._clamp:
            mtime = self._clamp
        device = status.st_rdev if kind in _DEVICES else 0
        return tarformat.entry(
            path,
            kind,
            mode=status.st_mode & 0o7777,
            uid=status.st_uid,
            gid=status.st_gid,
            size=size,
            mtime=mtime,
            link=link,
            major=os.major(device) if device else 0,
            minor=os.minor(device) if device else 0,
            xattrs=xattrs,
        )
