"""From an exec op to a step in the sandbox, and from its end to a result or an error."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from pybuild.executor import network
from pybuild.executor.steps.kepttrees import Lent
from pybuild.executor.steps.spec import (
    Connecting,
    StepExit,
    StepLimits,
    StepMount,
    StepMountType,
    StepSpec,
)
from pybuild.model.errors import StepError, UserError
from pybuild.model.events import VertexUsage
from pybuild.model.ops import (
    HOST_GATEWAY,
    ExecOp,
    HostMount,
    Mount,
    NetworkMode,
    SecurityMode,
    Vertex,
)
from pybuild.model.platform import Platform
from pybuild.model.resources import Resources
from pybuild.model.span import Span

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from pybuild.executor.steps.ociruntimes import OciRuntime

MAX_SECRET_BYTES = 500 << 10
_TAIL_BYTES = 16 << 10
_TAIL_LINES = 20

Secrets = Mapping[str, Callable[[], bytes]]
_T = TypeVar("_T")


async def looked_up(secrets: Secrets, look: Callable[[], _T]) -> _T:
    """Return the answer of *look* about *secrets*, waited for in a thread.

    Those that ask somebody for each bring ``threads`` of their own: it may take them long.
    """
    pool: ThreadPoolExecutor | None = getattr(secrets, "threads", None)
    return await asyncio.get_running_loop().run_in_executor(pool, look)


def read_secret(mount: Mount, secrets: Secrets) -> bytes | None:
    """Return the secret that *mount* asks for; None when there is none and it need not be [MNT-18].

    Raises:
        UserError: required and missing, or too large.
    """
    read = secrets.get(mount.id)
    if read is None:
        if mount.required:
            raise UserError(
                f"secret {mount.id}: not found", hints=(f"pass it with --secret id={mount.id},…",)
            )
        return None
    try:
        data = read()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"secret {mount.id}: cannot read it: {reason}") from error
    if len(data) > MAX_SECRET_BYTES:
        raise UserError(
            f"secret {mount.id}: {len(data)} bytes, at most {MAX_SECRET_BYTES} are possible"
        )
    return data


def header_text(id: str, value: bytes) -> str:
    """Return a secret that goes into a header."""
    text = value.decode("utf-8", "replace").strip("\r\n")
    if any(ord(char) < 32 for char in text):
        raise UserError(f"secret {id}: a value with control characters cannot be in a header")
    return text


def secret_env(mount: Mount, data: bytes) -> str:
    """Return ``NAME=value`` for a secret that is wanted in the environment [MNT-19]."""
    if b"\0" in data:
        raise UserError(f"secret {mount.id}: a value with a NUL cannot be in the environment")
    return f"{mount.env}={os.fsdecode(data)}"


def secret_mount(mount: Mount, data: bytes) -> StepMount:
    return StepMount(
        type=StepMountType.SECRET,
        target=mount.target,
        readonly=True,
        data=data,
        uid=mount.uid,
        gid=mount.gid,
        mode=0o400 if mount.mode is None else mount.mode,
    )


def tmpfs_mount(mount: Mount) -> StepMount:
    return StepMount(
        type=StepMountType.TMPFS,
        target=mount.target,
        readonly=mount.readonly,
        size_bytes=mount.tmpfs_size_bytes,
        mode=mount.mode,
    )


def bind_mount(
    mount: Mount, lowers: Sequence[str], selector: str, *, upper: str = "", work: str = ""
) -> StepMount:
    """Bind a part of a snapshot; writes, where allowed, go to *upper* or are lost [MNT-5]."""
    return StepMount(
        type=StepMountType.BIND_OVERLAY,
        target=mount.target,
        lowers=tuple(lowers),
        selector=selector,
        readonly=mount.readonly,
        discard_writes=not mount.readonly and not upper,
        upper=upper,
        work=work,
    )


def cache_mount(mount: Mount, path: str) -> StepMount:
    return StepMount(
        type=StepMountType.BIND_PATH,
        target=mount.target,
        source=path,
        readonly=mount.readonly,
        exclusive=True,
    )


def host_mount(mount: HostMount) -> StepMount:
    return StepMount(
        type=StepMountType.BIND_PATH,
        target=mount.target,
        source=mount.source,
        readonly=mount.readonly,
        discard_writes=mount.discard_writes,
    )


def ssh_mount(mount: Mount, path: str) -> StepMount:
    """Bind an agent's socket; connecting is no write, so it may be read-only [MNT-20]."""
    return StepMount(
        type=StepMountType.BIND_PATH, target=mount.target, source=path, readonly=mount.readonly
    )


def no_agent(id: str) -> UserError:
    """Return the error for an agent that a step or a repository needs and nobody forwarded."""
    return UserError(
        f'no SSH key "{id}" forwarded from the client',
        hints=(f"forward it with --ssh {id}",),
        peer="" if id == "default" else f"unset ssh forward key {id}",
    )


def spec(
    op: ExecOp,
    lent: Lent,
    *,
    lowers: Sequence[str],
    upper: str,
    work: str,
    common: str,
    store: str,
    mounts: Sequence[StepMount],
    default_env: Sequence[str],
    extra_env: Sequence[str],
    resolv_conf: str,
    connection: str,
    connecting: Connecting | None = None,
    cgroup: str = "",
) -> StepSpec:
    """Return the sandbox's order for the step.

    Args:
        lent: a copy to work on, where steps do that.
        default_env: variables that those of the op win over; *extra_env* wins over them.
        connection: the sandbox's word for the step's network; *connecting*: how it gets there.
        cgroup: the parent of its own.
    """
    settings = op.settings
    hostname = settings.hostname or network.DEFAULT_HOSTNAME
    return StepSpec(
        lowers=tuple(lowers),
        upper=upper,
        work=work,
        common=common,
        store=store,
        args=op.args,
        env=(*default_env, *op.proxy_env, *op.env, *extra_env),
        cwd=op.cwd or "/",
        user=op.user,
        hostname=hostname,
        network=connection,
        security=op.security.value,
        mounts=tuple(mounts),
        resolv_conf=resolv_conf.encode(),
        hosts=network.hosts(hostname, _known(settings.add_hosts, connecting)).encode(),
        ulimits=settings.ulimits,
        shm_size_bytes=settings.shm_size_bytes,
        readonly=any(mount.target == "/" and mount.readonly for mount in op.mounts),
        limits=_limits(settings.resources.within(cgroup)),
        tree=lent.tree,
        tree_of=lent.tree_of,
        keep=lent.keep,
        connecting=_for(op, connecting),
    )


def _known(
    hosts: Sequence[tuple[str, str]], connecting: Connecting | None
) -> tuple[tuple[str, str], ...]:
    """Return names with addresses: this machine's where a step's network meets it."""
    gateway = connecting.gateway if connecting else "127.0.0.1"
    return tuple((name, gateway if to == HOST_GATEWAY else to) for name, to in hosts)


def _for(op: ExecOp, connecting: Connecting | None) -> Connecting | None:
    """Return the way to the network for a step, which may have the right to change it."""
    if connecting is None or op.security is not SecurityMode.INSECURE:
        return connecting
    return connecting._replace(once=True)


def check_allowed(allow: frozenset[str], network: NetworkMode, security: SecurityMode) -> None:
    """Refuse what the request did not grant [RUN-5, RUN-6].

    Raises:
        UserError: an entitlement that is not in *allow*.
    """
    entitlements = {
        "network.host": network is NetworkMode.HOST,
        "security.insecure": security is SecurityMode.INSECURE,
    }
    for name, is_needed in entitlements.items():
        if is_needed and name not in allow:
            raise UserError(
                f"entitlement {name} is not allowed", hints=(f"grant it with --allow {name}",)
            )


@cache
def _limits(resources: Resources) -> StepLimits:
    """Return the limits of steps, as a rule the same for all."""
    return StepLimits(*(getattr(resources, one.name) for one in fields(resources)))


def rung_line(
    rung: str, detail: str, runtime: OciRuntime | None = None, *, copies: str = ""
) -> str:
    """Return a build's line about its isolation, "" where there is none.

    Args:
        detail: why the rung is not a better one.
        runtime: what runs the steps, if not our own sandbox.
        copies: how snapshots are copied, where overlay does not show them.
    """
    reason = f" ({detail})" if detail else ""
    if runtime is not None:
        where = "root" if rung == "root" else f"user namespace{reason}"
        return f"steps are run by {runtime.name} {runtime.version}, {where}\n"
    match rung:
        case "userns":
            return f"rootless: user namespace with a range of ids{reason}\n" + _no_overlay(copies)
        case "userns-single":
            return f"rootless: user namespace with one id, owners are recorded{reason}\n"
        case "chroot":
            return f"chroot: every step works on a copy of its snapshot, {copies}{reason}\n"
        case _:
            return _no_overlay(copies)


def _no_overlay(copies: str) -> str:
    if not copies:
        return ""
    return f"no overlay in this store: every step works on a copy of its snapshot, {copies}\n"


def copies_line(reflink: bool, root: str) -> str:
    """Return how snapshots are copied in the store *root*."""
    if reflink:
        return "made by reflink"
    return f"made in full (no reflinks in {root}: xfs and btrfs have them)"


class Tail:
    """Keeps the end of what a step wrote, for its error."""

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > 4 * _TAIL_BYTES:
            del self._data[:-_TAIL_BYTES]

    def lines(self) -> list[str]:
        text = bytes(self._data[-_TAIL_BYTES:]).decode("utf-8", "replace")
        return text.splitlines()[-_TAIL_LINES:]


def check_exit(
    op: ExecOp,
    ended: StepExit,
    tail: Tail,
    spans: Sequence[Span],
    *,
    trusts: bool = False,
    step: str = "",
    reason: Callable[[Sequence[str]], tuple[str, str]] | None = None,
) -> None:
    """Raise for a status that is not valid [RUN-3].

    Args:
        trusts: the step trusted authorities that its image does not have.
        step: its name.
        reason: finds the cause and the way out by the end of the output (`steps.exits`).

    Raises:
        StepError: with the last lines of output.
    """
    if ended.status in op.valid_exit_codes:
        return
    from pybuild.executor.steps.exits import command_of

    hints: list[str] = []
    last = tail.lines()
    how = peer = f"exit code: {ended.status}"
    if any("exec format error" in line.lower() for line in last[-3:]):
        hints.append(_format_hint(op))
    elif ended.oom_killed:
        how = peer = f"{how} (out of memory)"
        hints.append(_memory_hint(op, ended))
    elif ended.out_of_processes:
        how = peer = f"{how} (out of processes)"
        limit = op.settings.resources.pids
        few = f"pids={limit} allows" if limit else "a step may have"
        hints.append(f"it wanted more processes at once than {few} (--resource pids=N)")
    elif way_out := _certificate_hint(last, trusts=trusts):
        how += " (a certificate is not trusted)"
        hints.append(way_out)
    elif reason is not None:
        cause, hint = reason(last)
        how += f" ({cause})" if cause else ""
        hints.append(hint)
    raise StepError(
        f"{how}: {command_of(op)}",
        peer=f"{failed(op)}: {peer}",
        status=ended.status,
        log_tail=last,
        step=step,
        spans=spans,
        hints=hints,
    )


def _certificate_hint(last: Sequence[str], *, trusts: bool) -> str:
    from pybuild.executor.authorities import hint  # for steps that failed alone

    return hint(last, trusts_more=trusts)


def usage(vertex: Vertex, ended: StepExit) -> VertexUsage:
    """Return the event that says what a step took."""
    return VertexUsage(
        vertex=vertex.digest,
        cpu_seconds=round(ended.cpu_seconds, 3),
        peak_memory_bytes=ended.peak_memory_bytes or ended.max_rss_bytes,
    )


def loss_warning(op: ExecOp, ended: StepExit) -> str:
    """Return the warning about a step that succeeded although a process of it was killed; "" if none was.

    The status of ``a | b`` is that of b alone.
    """
    if ended.oom_killed:
        return (
            "a process of this step was killed for want of memory, yet the step succeeded, and its "
            f"result is kept: {_memory_hint(op, ended)}"
        )
    return ""


def _format_hint(op: ExecOp) -> str:
    from pybuild.executor.runnable import runnable  # for steps that failed alone

    if op.platform in runnable(Platform.make("linux", os.uname().machine)):
        return (
            "the file is a program for another platform, or a script whose first line is not like "
            "#!/bin/sh"
        )
    return (
        f"programs for {op.platform} need an emulator here: install qemu-user-static and "
        "binfmt-support (pybuild doctor shows which are registered)"
    )


def _memory_hint(op: ExecOp, ended: StepExit) -> str:
    limit = op.settings.resources.memory_bytes
    peak = ended.peak_memory_bytes
    had = f"; it had {peak >> 20} MiB" if peak else ""
    if limit:
        return f"the kernel killed it at the limit of {limit >> 20} MiB (--memory){had}"
    return f"the kernel killed it because memory ran out: give the machine more{had}"


def failed(op: ExecOp) -> str:
    """How an error about a step begins [RUN-3]; the command in quotes, on one line."""
    shown = json.dumps(" ".join(op.args), ensure_ascii=False)
    return f"process {shown} did not complete successfully"
