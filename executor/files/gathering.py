"""Worker functions about many files of a snapshot's tree: their digests, or what they hold."""

from __future__ import annotations

import hashlib
import os
import stat

from pybuild.executor.files.apply import Mounts
from pybuild.executor.files.selecting import find
from pybuild.executor.files.tree import Tree
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.image.layer.descent import OPEN_DIR, directories
from pybuild.image.layer.faults import MOST_PATH_BYTES, too_deep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.model.border import WorkerCall

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 1 << 20


def digests(call: WorkerCall, mount_dir: str, deltas: Sequence[str]) -> list[tuple[str, str]]:
    """Return path and sha256 (hex) of every regular file in the tree of *deltas*, base first.

    Paths are relative, sorted, and text: bytes that are none are replaced. Needs a private mount
    namespace and *mount_dir*, an empty directory.
    """
    if not deltas:
        return []
    files: list[tuple[str, str]] = []
    for here, prefix, below in directories(Mounts(mount_dir).overlay(deltas)):
        for name in map(os.fsencode, os.listdir(here)):
            mode = os.stat(name, dir_fd=here, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                if len(prefix) > MOST_PATH_BYTES:
                    raise too_deep(prefix + name)
                below.append(name)
            elif stat.S_ISREG(mode):
                files.append((_text(prefix + name), _sha256(here, name)))
    return sorted(files)


def gather(
    call: WorkerCall, mount_dir: str, deltas: Sequence[str], path: str, limit: int
) -> list[tuple[str, bytes]]:
    """Return name and bytes of each file in the directory *path* of *deltas*, base first.

    Args:
        limit: how long one may be.
        mount_dir: as for `digests`.

    Raises:
        Fault: user; there is no such directory, or in it something that is no file or too long.
    """
    if not deltas:
        return []
    files: list[tuple[str, bytes]] = []
    with Tree.open(Mounts(mount_dir).overlay(deltas)) as tree:
        try:
            place = find(tree, path, follow=True)
        except FileNotFoundError:
            raise Fault(USER, f"{path}: no such directory") from None
        with place:
            if not place.is_dir:
                raise Fault(USER, f"{path}: not a directory")
            folder = os.open(place.name or ".", OPEN_DIR, dir_fd=place.fd)
    try:
        for name in sorted(os.listdir(folder)):
            shown = f"{path.rstrip('/')}/{_text(os.fsencode(name))}"
            if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise Fault(USER, f"{shown}: not a regular file")
            with os.fdopen(os.open(name, _OPEN, dir_fd=folder), "rb") as file:
                data = file.read(limit + 1)
            if len(data) > limit:
                raise Fault(USER, f"{shown}: larger than {limit >> 20} MiB")
            files.append((_text(os.fsencode(name)), data))
    finally:
        os.close(folder)
    return files


def _sha256(folder: int, name: bytes) -> str:
    digest = hashlib.sha256()
    with os.fdopen(os.open(name, _OPEN, dir_fd=folder), "rb", buffering=0) as file:
        while data := file.read(_PIECE):
            digest.update(data)
    return digest.hexdigest()


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
