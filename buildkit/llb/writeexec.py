"""Our exec ops as they travel."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.buildkit.llb.execs import PROXIES, SECURITY
from pybuild.buildkit.llb.mounts import SHARING
from pybuild.buildkit.llb.stepsettings import write_settings
from pybuild.buildkit.llb.writefiles import write_file
from pybuild.buildkit.pb import ops as pb
from pybuild.model.errors import UserError
from pybuild.model.ops import ExecOp, FileOp, Mkdir, Mount, MountType, Owner

_NONE = -1
_SEED_PATH = "/cache"
_KINDS = {
    MountType.BIND: pb.BIND,
    MountType.CACHE: pb.CACHE,
    MountType.TMPFS: pb.TMPFS,
    MountType.SECRET: pb.SECRET,
    MountType.SSH: pb.SSH,
}
_SECURITY = {ours: number for number, ours in SECURITY.items()}
_SHARING = {ours: number for number, ours in SHARING.items()}


def cache_seeds(op: ExecOp) -> list[pb.FileOp | None]:
    """Return per mount the op that makes an empty directory with a cache's owner and mode.

    LLB knows these of no cache mount; they come with what it starts from.

    Raises:
        UserError: it starts from something else already.
    """
    return [_seed(mount) for mount in op.mounts]


def _seed(mount: Mount) -> pb.FileOp | None:
    if mount.type is not MountType.CACHE or (mount.uid, mount.gid, mount.mode) == (0, 0, None):
        return None
    if mount.input is not None:
        raise UserError(
            f'the cache mount "{mount.target}" cannot have both a content to start with '
            "and an owner or mode of its own"
        )
    owner = Owner(user=str(mount.uid), group=str(mount.gid))
    mode = 0o755 if mount.mode is None else mount.mode
    mkdir = Mkdir(path=_SEED_PATH, mode=mode, make_parents=False, owner=owner)
    return write_file(FileOp(actions=(mkdir,)), [_NONE])


def result_number(op: ExecOp) -> int:
    """Return the number of the op's result that is the vertex's."""
    kept = [mount for mount in op.mounts if mount.output or mount.shared_output]
    return next((number for number, mount in enumerate(kept) if mount.output), 0)


def write_exec(op: ExecOp, numbers: Sequence[int], seeds_at: int) -> pb.ExecOp:
    """Return the op.

    Args:
        numbers: of the vertex's inputs in the op that is written, -1 for scratch; from *seeds_at*
            on those of each mount's `cache_seeds`.
    """
    out = pb.ExecOp(security=_SECURITY[op.security])
    meta = out.meta
    meta.args.extend(op.args)
    meta.env.extend(op.env)
    meta.cwd = op.cwd
    meta.user = op.user
    meta.removeMountStubsRecursive = True
    if op.valid_exit_codes != (0,):
        meta.validExitCodes.extend(op.valid_exit_codes)
    out.cdiDevices.extend(
        pb.CDIDevice(name=device.name, optional=not device.required) for device in op.devices
    )
    _write_proxies(meta, op)
    results = 0
    for place, mount in enumerate(op.mounts):
        if mount.env:
            out.secretenv.add(ID=mount.id, name=mount.env, optional=not mount.required)
            if not mount.target:
                continue
        seed = numbers[seeds_at + place]
        written = _mount(mount, numbers, seed)
        if mount.output or mount.shared_output:
            written.output = results
            results += 1
        out.mounts.append(written)
    write_settings(op.settings, out)
    return out


def _write_proxies(meta: pb.Meta, op: ExecOp) -> None:
    given: dict[str, str] = {name: "" for name in PROXIES}
    for item in op.proxy_env:
        name, _, value = item.partition("=")
        if name.lower() in given:
            given[name.lower()] = value
    if any(given.values()):
        meta.proxy_env.http_proxy = given["http_proxy"]
        meta.proxy_env.https_proxy = given["https_proxy"]
        meta.proxy_env.ftp_proxy = given["ftp_proxy"]
        meta.proxy_env.no_proxy = given["no_proxy"]
        meta.proxy_env.all_proxy = given["all_proxy"]


def _mount(mount: Mount, numbers: Sequence[int], seed: int) -> pb.Mount:
    out = pb.Mount(
        input=_NONE if mount.input is None else numbers[mount.input],
        selector="" if mount.selector == "/" else mount.selector,
        dest=mount.target,
        output=_NONE,
        mountType=_KINDS[mount.type],
    )
    match mount.type:
        case MountType.BIND:
            out.readonly = mount.readonly
        case MountType.CACHE:
            out.readonly = mount.readonly
            # An empty namespace in front, as the Dockerfile frontend has it.
            out.cacheOpt.ID = "/" + mount.cache_id
            out.cacheOpt.sharing = _SHARING[mount.sharing]
            if seed >= 0:
                out.input, out.selector = seed, _SEED_PATH
        case MountType.TMPFS:
            out.readonly = mount.readonly
            out.TmpfsOpt.size = mount.tmpfs_size_bytes
        case MountType.SECRET:
            _write_file_options(out.secretOpt, mount, 0o400)
        case MountType.SSH:
            _write_file_options(out.SSHOpt, mount, 0o600)
    return out


def _write_file_options(out: pb.SecretOpt | pb.SSHOpt, mount: Mount, default_mode: int) -> None:
    out.ID = mount.id
    out.uid = mount.uid
    out.gid = mount.gid
    out.mode = default_mode if mount.mode is None else mount.mode
    out.optional = not mount.required
