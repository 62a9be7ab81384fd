"""Received exec ops as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pybuild.buildkit.llb import fields
from pybuild.buildkit.llb.graph import Edge, Entry
from pybuild.buildkit.llb.mounts import MountCollector, chosen
from pybuild.buildkit.llb.stepsettings import read_settings
from pybuild.buildkit.pb import ops as pb
from pybuild.model.ops import Device, ExecOp, SecurityMode, Vertex
from pybuild.model.platform import Platform

SECURITY = {pb.SANDBOX: SecurityMode.SANDBOX, pb.INSECURE: SecurityMode.INSECURE}
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
_MAX_MOUNTS = 1000
_MAX_RESULTS = 64


def kept_mounts(entry: Entry, used: frozenset[int]) -> dict[int, int]:
    """Return the mounts whose contents are used: the place in the op's list, by result number.

    Clients mark whatever is writable as a result; only what is used is kept.

    Raises:
        UserError: a result that is none, or that only a read-only mount has.
    """
    if len(used) > _MAX_RESULTS:
        raise entry.wrong(f"{len(used)} results")
    kept: dict[int, int] = {}
    for number, mount in enumerate(entry.op.exec.mounts):
        if mount.mountType == pb.BIND and mount.output >= 0 and mount.output in used:
            if mount.output in kept:
                raise entry.wrong(f"result {mount.output} is that of two mounts")
            if mount.readonly:
                raise entry.wrong(f'the read-only mount "{mount.dest}" has no result')
            kept[mount.output] = number
    missing = sorted(used - set(kept))
    if missing:
        raise entry.wrong(f"there is no result {missing[0]}")
    return dict(sorted(kept.items()))


def read_exec(
    entry: Entry,
    kept: int,
    shared: frozenset[int],
    platform: Platform,
    tree: Callable[[Edge], Vertex],
) -> tuple[ExecOp, tuple[Vertex, ...]]:
    """Return the op and its inputs: the root first, which no mount shares, as in our frontend.

    Args:
        kept: the mount whose content is the result; *shared* are those that other vertices of the
            same step have as theirs.
        tree: returns the vertex of an edge.

    Raises:
        UserError: it cannot be, or asks for what we do not have.
    """
    received = entry.op.exec
    meta = received.meta
    if not meta.args:
        raise entry.wrong("invalid exec op with no args")
    if len(received.mounts) > _MAX_MOUNTS:
        raise entry.wrong(f"{len(received.mounts)} mounts")
    cwd = fields.path(meta.cwd, "the working directory")
    mounts = MountCollector(entry, cwd, tree)
    for number, mount in enumerate(received.mounts):
        mounts.add(mount, is_kept=number == kept, is_shared=number in shared)
    for secret in received.secretenv:
        mounts.add_secret_env(secret)
    if mounts.roots != 1:
        raise entry.wrong(f"invalid exec op with {mounts.roots or 'no'} rootfs")
    op = ExecOp(
        args=fields.texts(meta.args, "an argument"),
        env=fields.texts(meta.env, "a variable"),
        cwd=cwd,
        user=fields.text(meta.user, "the user"),
        # The root first, and parents before what lies in them [MNT-17].
        mounts=tuple(sorted(mounts.items, key=lambda item: (item.target != "/", item.target))),
        security=chosen(SECURITY, received.security, entry, "security mode"),
        platform=platform,
        valid_exit_codes=tuple(meta.validExitCodes) or (0,),
        proxy_env=tuple(_proxies(meta.proxy_env)),
        devices=tuple(
            Device(name=fields.text(item.name, "a device"), required=not item.optional)
            for item in received.cdiDevices
        ),
        settings=read_settings(entry, mounts.shm_size_bytes),
    )
    return op, tuple(mounts.inputs)


def _proxies(env: pb.ProxyEnv) -> Iterator[str]:
    """Yield each variable in both cases [EV-11]."""
    values = (env.http_proxy, env.https_proxy, env.ftp_proxy, env.no_proxy, env.all_proxy)
    for name, value in zip(PROXIES, values, strict=True):
        if value:
            yield f"{name.upper()}={fields.text(value, name)}"
            yield f"{name}={value}"
