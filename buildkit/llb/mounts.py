"""Received mounts as ours, and the inputs that they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from pybuild.buildkit.llb import fields
from pybuild.buildkit.llb.graph import Edge, Entry
from pybuild.buildkit.pb import ops as pb
from pybuild.frontend.lowering import paths
from pybuild.model.ops import CacheSharing, FileOp, Mkdir, Mount, MountType, ScratchSource, Vertex

SCRATCH = Vertex(ScratchSource())
SHM = "/dev/shm"
SHARING = {
    pb.SHARED: CacheSharing.SHARED,
    pb.PRIVATE: CacheSharing.PRIVATE,
    pb.LOCKED: CacheSharing.LOCKED,
}
_SECRET_MODE = 0o400
_T = TypeVar("_T")


def chosen(table: Mapping[int, _T], number: int, entry: Entry, what: str) -> _T:
    """Return the value of an enum's *number*.

    Raises:
        UserError: a number that we do not know.
    """
    if number not in table:
        raise entry.wrong(f"invalid {what}: {number} is not supported")
    return table[number]


class MountCollector:
    """Collects the mounts of one op and the inputs that they name.

    Args:
        cwd: the step's working directory, in which relative mounts lie.
    """

    def __init__(self, entry: Entry, cwd: str, tree: Callable[[Edge], Vertex]) -> None:
        self._entry = entry
        self._cwd = cwd
        self._tree = tree
        self.items: list[Mount] = []
        self.inputs: list[Vertex] = [SCRATCH]
        self._numbers: dict[Vertex, int] = {}
        self.roots = 0
        self.shm_size_bytes = 0

    def add(self, mount: pb.Mount, *, is_kept: bool, is_shared: bool) -> None:
        target = paths.join(self._cwd, fields.text(mount.dest, "a mount"))
        if target == "/" and mount.mountType != pb.BIND:
            raise self._entry.wrong(f'invalid mount target "{mount.dest}"')
        if mount.resultID:
            raise self._entry.wrong(f'a mount of the result "{mount.resultID}" is not supported')
        match mount.mountType:
            case pb.BIND:
                self._bind(mount, target, is_kept, is_shared)
            case pb.CACHE:
                self._cache(mount, target)
            case pb.TMPFS:
                self._tmpfs(mount, target)
            case pb.SECRET:
                self._secret(mount, target)
            case pb.SSH:
                self._ssh(mount, target)
            case kind:
                raise self._entry.wrong(f"mount type {kind} is not supported")

    def _input(self, mount: pb.Mount) -> Vertex | None:
        edge = self._entry.edge(mount.input, f'the mount "{mount.dest}"')
        return None if edge is None else self._tree(edge)

    def _index(self, source: Vertex | None) -> int | None:
        if source is None:
            return None
        if source not in self._numbers:
            self._numbers[source] = len(self.inputs)
            self.inputs.append(source)
        return self._numbers[source]

    def _bind(self, mount: pb.Mount, target: str, is_kept: bool, is_shared: bool) -> None:
        source = self._input(mount)
        if target == "/":
            self.roots += 1
            self.inputs[0] = SCRATCH if source is None else source
        self.items.append(
            Mount(
                target=target,
                input=0 if target == "/" else self._index(source),
                selector=fields.path(mount.selector, "a mount"),
                readonly=mount.readonly,
                output=is_kept,
                shared_output=is_shared,
            )
        )

    def _cache(self, mount: pb.Mount, target: str) -> None:
        cache_id = fields.text(mount.cacheOpt.ID, "a cache mount")
        if not cache_id:
            raise self._entry.wrong(f'the cache mount "{mount.dest}" has no id')
        selector = fields.path(mount.selector, "a mount")
        source = self._input(mount)
        look = None if source is None else empty_cache(source, selector)
        uid, gid, mode = look or (0, 0, None)
        self.items.append(
            Mount(
                target=target,
                type=MountType.CACHE,
                input=None if look else self._index(source),
                selector="/" if look else selector,
                readonly=mount.readonly,
                # The Dockerfile frontend puts a namespace in front, which is mostly empty.
                cache_id=cache_id.removeprefix("/") or cache_id,
                sharing=chosen(SHARING, mount.cacheOpt.sharing, self._entry, "sharing mode"),
                uid=uid,
                gid=gid,
                mode=mode,
            )
        )

    def _tmpfs(self, mount: pb.Mount, target: str) -> None:
        size = mount.TmpfsOpt.size
        if size < 0:
            raise self._entry.wrong(f'the mount "{mount.dest}" has the size {size}')
        if target == SHM and size and not mount.readonly:
            self.shm_size_bytes = size
            return
        self.items.append(
            Mount(
                target=target,
                type=MountType.TMPFS,
                readonly=mount.readonly,
                tmpfs_size_bytes=size,
            )
        )

    def _secret(self, mount: pb.Mount, target: str) -> None:
        option = mount.secretOpt
        if not option.ID:
            raise self._entry.wrong(f'the secret mount "{mount.dest}" has no id')
        self.items.append(
            Mount(
                target=target,
                type=MountType.SECRET,
                readonly=True,
                id=fields.text(option.ID, "a secret"),
                required=not option.optional,
                uid=fields.owner_id(option.uid, "a secret"),
                gid=fields.owner_id(option.gid, "a secret"),
                mode=fields.mode(option.mode, "a secret"),
            )
        )

    def _ssh(self, mount: pb.Mount, target: str) -> None:
        option = mount.SSHOpt
        self.items.append(
            Mount(
                target=target,
                type=MountType.SSH,
                readonly=True,
                id=fields.text(option.ID, "an ssh mount") or "default",
                required=not option.optional,
                uid=fields.owner_id(option.uid, "an ssh mount"),
                gid=fields.owner_id(option.gid, "an ssh mount"),
                mode=fields.mode(option.mode, "an ssh mount"),
            )
        )

    def add_secret_env(self, secret: pb.SecretEnv) -> None:
        if not secret.ID or not secret.name or "=" in secret.name:
            raise self._entry.wrong(f'invalid secret variable "{secret.name}"')
        self.items.append(
            Mount(
                target="",
                type=MountType.SECRET,
                readonly=True,
                id=fields.text(secret.ID, "a secret"),
                required=not secret.optional,
                env=fields.text(secret.name, "a secret"),
                mode=_SECRET_MODE,
            )
        )


def empty_cache(source: Vertex, selector: str) -> tuple[int, int, int] | None:
    """Return owner and mode where a seed is just an empty directory made for them [MNT-15]."""
    match source:
        case Vertex(
            op=FileOp(
                actions=(Mkdir(path=path, make_parents=False, mtime=None, mode=mode, owner=owner),)
            ),
            inputs=(Vertex(op=ScratchSource()),),
        ) if path == selector:
            user, group = (owner.user, owner.group or "0") if owner else ("0", "0")
            ids = [int(text) for text in (user, group) if text.isdecimal() and len(text) <= 10]
            return (ids[0], ids[1], mode) if len(ids) == 2 else None
        case _:
            return None
