"""Received exec ops as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from pybuild.daemon.llb import fields
from pybuild.daemon.llb.graph import Edge, Entry
from pybuild.daemon.pb import ops as pb
from pybuild.model.ops import (
    CacheSharing,
    ExecOp,
    FileOp,
    Mkdir,
    Mount,
    MountType,
    NetworkMode,
    ScratchSource,
    SecurityMode,
    Vertex,
)
from pybuild.model.platform import Platform

SHM = "/dev/shm"
NETWORKS = {
    pb.UNSET: NetworkMode.DEFAULT,
    pb.HOST: NetworkMode.HOST,
    pb.NONE: NetworkMode.NONE,
}
SECURITY = {pb.SANDBOX: SecurityMode.SANDBOX, pb.INSECURE: SecurityMode.INSECURE}
SHARING = {
    pb.SHARED: CacheSharing.SHARED,
    pb.PRIVATE: CacheSharing.PRIVATE,
    pb.LOCKED: CacheSharing.LOCKED,
}
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
SECRET_MODE = 0o400
_MAX_MOUNTS = 1000
_T = TypeVar("_T")
SCRATCH = Vertex(ScratchSource())


def kept_mounts(entry: Entry, used: frozenset[int]) -> tuple[int, ...]:
    """Return which mounts' contents somebody needs, as places in the op's list, by result number.

    Clients mark whatever is writable as a result; only what is used is kept.

    Raises:
        UserError: a result that is none, or that only a read-only mount has.
    """
    found: dict[int, int] = {}
    for number, mount in enumerate(entry.op.exec.mounts):
        if mount.mountType == pb.BIND and mount.output >= 0 and mount.output in used:
            if mount.output in found:
                raise entry.wrong(f"result {mount.output} is that of two mounts")
            if mount.readonly:
                raise entry.wrong(f'the read-only mount "{mount.dest}" has no result')
            found[mount.output] = number
    missing = sorted(used - set(found))
    if missing:
        raise entry.wrong(f"there is no result {missing[0]}")
    return tuple(found[index] for index in sorted(used))


def read_exec(
    entry: Entry, kept: tuple[int, ...], platform: Platform, tree: Callable[[Edge], Vertex]
) -> tuple[ExecOp, tuple[Vertex, ...]]:
    """Return the op and its inputs: the root first, which no mount shares, as in our frontend.

    Args:
        kept: see `kept_mounts`.
        tree: returns what an edge stands for.

    Raises:
        UserError: it cannot be, or asks for what we do not have.
    """
    received = entry.op.exec
    meta = received.meta
    _refuse(entry, received)
    if not meta.args:
        raise entry.wrong("invalid exec op with no args")
    if len(received.mounts) > _MAX_MOUNTS:
        raise entry.wrong(f"{len(received.mounts)} mounts")
    mounts = _Mounts(entry, tree)
    for number, mount in enumerate(received.mounts):
        mounts.add(mount, is_kept=number in kept)
    for secret in received.secretenv:
        mounts.add_secret_env(secret)
    if mounts.roots != 1:
        raise entry.wrong(f"invalid exec op with {mounts.roots or 'no'} rootfs")
    op = ExecOp(
        args=fields.texts(meta.args, "an argument"),
        env=fields.texts(meta.env, "a variable"),
        cwd=fields.path(meta.cwd, "the working directory"),
        user=fields.text(meta.user, "the user"),
        # The root first, and parents before what lies in them [MNT-17].
        mounts=tuple(sorted(mounts.items, key=lambda item: (item.target != "/", item.target))),
        network=_of(NETWORKS, received.network, entry, "network mode"),
        security=_of(SECURITY, received.security, entry, "security mode"),
        platform=platform,
        hostname=fields.text(meta.hostname, "the host name"),
        add_hosts=tuple(
            (fields.text(host.Host, "a host"), fields.text(host.IP, "an address"))
            for host in meta.extraHosts
        ),
        ulimits=tuple(
            (fields.text(item.Name, "a ulimit"), item.Soft, item.Hard) for item in meta.ulimit
        ),
        shm_size_bytes=mounts.shm_size_bytes,
        valid_exit_codes=tuple(meta.validExitCodes) or (0,),
        proxy_env=tuple(_proxies(meta.proxy_env)),
    )
    return op, tuple(mounts.inputs)


def _refuse(entry: Entry, received: pb.ExecOp) -> None:
    """Refuse what we cannot do, so that it is not left out silently."""
    if received.meta.cgroupParent:
        raise entry.wrong("a cgroup parent is not supported")
    for device in received.cdiDevices:
        raise entry.wrong(f'the device "{device.name}" is not supported')
    if entry.metadata.linux_resources.ByteSize():
        raise entry.wrong("limits of memory and processors are not supported")


def _of(table: Mapping[int, _T], number: int, entry: Entry, what: str) -> _T:
    if number not in table:
        raise entry.wrong(f"{what} {number} is not supported")
    return table[number]


def _proxies(env: pb.ProxyEnv) -> Iterator[str]:
    """Yield each variable in both cases [EV-11]."""
    values = (env.http_proxy, env.https_proxy, env.ftp_proxy, env.no_proxy, env.all_proxy)
    for name, value in zip(PROXIES, values, strict=True):
        if value:
            yield f"{name.upper()}={fields.text(value, name)}"
            yield f"{name}={value}"


class _Mounts:
    """Collects the mounts of one op and the inputs that they name."""

    def __init__(self, entry: Entry, tree: Callable[[Edge], Vertex]) -> None:
        self._entry = entry
        self._tree = tree
        self.items: list[Mount] = []
        self.inputs: list[Vertex] = [SCRATCH]
        self._numbers: dict[Vertex, int] = {}
        self.roots = 0
        self.shm_size_bytes = 0

    def add(self, mount: pb.Mount, *, is_kept: bool) -> None:
        target = fields.path(mount.dest, "a mount")
        if target == "/" and mount.mountType != pb.BIND:
            raise self._entry.wrong(f'invalid mount target "{mount.dest}"')
        if mount.resultID:
            raise self._entry.wrong(f'a mount of the result "{mount.resultID}" is not supported')
        match mount.mountType:
            case pb.BIND:
                self._bind(mount, target, is_kept)
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

    def _bind(self, mount: pb.Mount, target: str, is_kept: bool) -> None:
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
                sharing=_of(SHARING, mount.cacheOpt.sharing, self._entry, "sharing mode"),
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
                mode=SECRET_MODE,
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
            return (int(user), int(group), mode) if (user + group).isdigit() else None
        case _:
            return None
