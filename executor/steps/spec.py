"""The order to the sandbox, and the end of what it ran.

Zygotes import this module as it is: it and what it imports must cost nothing (`model.border`).
"""

from __future__ import annotations

from pybuild.model.border import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NEW_NETWORK = ("none", "isolated")
"""Modes of a network namespace that is made with the step's process."""
OWN_NETWORK = (*NEW_NETWORK, "connected")
_MOST_FILES_BYTES = 16 << 10
"""Of hosts and resolv.conf, if they are to go in a short message."""

_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
ALL_CAPABILITIES = tuple("CAP_" + name for name in _CAPABILITIES.split())
"""The names of capabilities, in the order of their numbers."""


class StepMountType:
    """How a mount of a step is made; the solver's mount types are one level up."""

    BIND_PATH = "bind-path"
    """A file or directory of the host: a client's directory, a cache mount, an agent's socket."""
    BIND_OVERLAY = "bind-overlay"
    """A path of a stack of deltas."""
    DEVICE = "device"
    """A device node of the host, usable as such."""
    TMPFS = "tmpfs"
    SECRET = "secret"
    """A file with *data* on a tmpfs that nothing else sees."""


class StepMount(NamedTuple):
    """One mount of a step, in addition to the root and the kernel's own.

    Attributes:
        type: of `StepMountType`.
        target: absolute path in the step; resolved inside its root, links too.
        source: of bind-path: a host path, resolved by the host's rules; *selector* inside it is
            resolved inside it.
        lowers: of bind-overlay: directories of the deltas, base first.
        selector: what of the source is mounted; ``/`` is all of it.
        readonly: a bind that is not goes to the source itself for bind-path with
            *discard_writes* off, and to a place that is thrown away otherwise.
        discard_writes: writes succeed and are lost [MNT-5].
        upper, work: of bind-overlay: empty directories on one file system, as those of the step;
            writes go there and are kept.
        exclusive: of bind-path: nobody else uses the source meanwhile; where nothing can be mounted
            it may be moved.
        size_bytes: of tmpfs; 0 is the kernel's default. *noexec*: nothing in it can be executed.
        data: of secret.
        uid, gid, mode: of secret and tmpfs, as the step sees them.
    """

    type: str
    target: str
    source: str = ""
    lowers: tuple[str, ...] = ()
    selector: str = "/"
    readonly: bool = False
    discard_writes: bool = False
    upper: str = ""
    work: str = ""
    exclusive: bool = False
    size_bytes: int = 0
    data: bytes = b""
    uid: int = 0
    gid: int = 0
    mode: int | None = None
    noexec: bool = False


class DeviceEdits(NamedTuple):
    """The environment and the mounts of a step's devices."""

    env: tuple[str, ...] = ()
    mounts: tuple[StepMount, ...] = ()


class StepLimits(NamedTuple):
    """The limits of a step's cgroup: those of `Resources`, which a zygote does not import, and a container's.

    Attributes:
        reserved_bytes: memory that is left to it where others want it, too.
        swappiness: how readily its memory is swapped out, ``0`` to ``100``; "": as the machine's.
    """

    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    cpu_shares: int = 0
    cpu_period_us: int = 0
    cpu_quota_us: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0
    parent: str = ""
    reserved_bytes: int = 0
    swappiness: str = ""


class StepPrivileges(NamedTuple):
    """The rights of a process beside the default, and below it.

    Attributes:
        add, drop: bits of capabilities.
        filtered: the system call filter holds for it.
        no_new: no program of it gains privileges.
        groups: names and numbers of groups that its user is in, too.
        oom_score_adj: how much sooner it is killed for memory than others, -1000 to 1000.
        sysctls: ``(name, value)``, of its own namespaces.
    """

    add: int = 0
    drop: int = 0
    filtered: bool = True
    no_new: bool = False
    groups: tuple[str, ...] = ()
    oom_score_adj: int = 0
    sysctls: tuple[tuple[str, str], ...] = ()


class StepSharing(NamedTuple):
    """The namespaces that a process does not have for itself, beside that of the network.

    Attributes:
        flags: those of clone(2) that are not made for it.
        ipc: whose /dev/shm it has: ``""`` its own, ``none`` nobody's, ``host``, or ``joined``.
        ipc_of, pids_of: descriptors of the processes whose namespaces it joins, open in it already; -1.
    """

    flags: int = 0
    ipc: str = ""
    ipc_of: int = -1
    pids_of: int = -1


class OciOrder(NamedTuple):
    """The OCI runtime that runs a step, and what it is given.

    Attributes:
        path, name, options: of the program.
        config: of the bundle, without what the step's process alone can know.
        capabilities: by name and number, as far as there are any to give.
    """

    path: str
    name: str
    options: tuple[str, ...]
    config: dict[str, Any]
    capabilities: tuple[tuple[str, int], ...]


class Connecting(NamedTuple):
    """How the zygote gets network namespaces that lead outside, for steps.

    Attributes:
        function: makes one, ``module:name``; it is called with *words*, and returns the descriptors of
            the namespace and of its ``/proc/net/sockstat``.
        gateway: the address of the host on its near side.
        once: no other step gets it: the step may change it.
    """

    function: str
    words: tuple[str, ...]
    gateway: str = ""
    once: bool = False


class StepKind(NamedTuple):
    """The part of a step that a process made ahead for it shares.

    Attributes:
        hosts, resolv_conf: as in `StepSpec`, if they are short.
        store: as in `StepSpec`; "" too where the step's directories are not all in it.
        usual: a process can be made ahead.
    """

    network: str
    limits: StepLimits
    hostname: str
    hosts: bytes | None
    resolv_conf: bytes | None
    store: str
    usual: bool
    connecting: Connecting | None = None


class StepStart(NamedTuple):
    """The part of a step that the zygote must know before the step's process exists."""

    kind: StepKind
    upper: str
    work: str
    lasting: bool = False
    sharing: StepSharing = StepSharing()


class StepJoin(NamedTuple):
    """The start of a further process in a step that runs: the job of its first one."""

    job: str


class StepSpec(NamedTuple):
    """One process in one file tree.

    Attributes:
        lowers: directories of the deltas of the root file system, base first; may be empty.
        upper: an empty directory that takes the changes; it is the new delta afterwards.
        work: an empty directory on the same file system as *upper*, for this step alone; what is in
            it afterwards, if it is there still, is rubbish for the caller to delete, in a worker.
        common: a directory on the same file system, with an empty directory ``root``, where steps
            of a build keep what is alike in all of them; "" for none.
        store: the store's directory, if all of these lie in it; "" if that is not known.
        env: ``NAME=value``; a later one wins. HOME and PATH are added when absent.
        cwd: absolute; created if missing, owned by the user [SBX-16].
        user: ``user[:group]``, names looked up in the tree's passwd and group [USR-1].
        network: ``default`` (the host's, but for its abstract sockets), ``none``, ``host``,
            ``isolated`` (its own, connected by slirp4netns), or ``connected``: its own, see *connecting*.
        security: ``sandbox`` or ``insecure`` [SBX-3].
        resolv_conf, hosts: contents of the files bound over those in /etc; None: as in the image.
        ulimits: ``(name, soft, hard)``, -1 for unlimited.
        shm_size_bytes: 0 for 64 MiB.
        readonly: the root itself, not what is mounted in it, refuses writes.
        limits: of its cgroup; what cannot be enforced is a warning.
        tree, tree_of: a copy of the first so many of *lowers*, which the step may take over, where
            it works on a copy.
        keep: where to leave that copy, as it is after the step; it may not be there then.
        oci: has the step run by an OCI runtime, not by our own sandbox.
        terminal: rows and columns of a terminal of its own, which are its streams; what holds the
            other end is handed over as ``terminal`` when it is ready.
        lasting: it outlives its parent, can be frozen, and why its program cannot be executed is
            said on its channel, not on its standard error.
        is_container: it is no step of a build: it has /etc/hostname, its working directory is root's
            where it is made, and any user of its network may listen on low ports.
    """

    lowers: tuple[str, ...]
    upper: str
    work: str
    args: tuple[str, ...]
    common: str = ""
    store: str = ""
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = "buildkitsandbox"
    network: str = "default"
    security: str = "sandbox"
    mounts: tuple[StepMount, ...] = ()
    resolv_conf: bytes | None = None
    hosts: bytes | None = None
    ulimits: tuple[tuple[str, int, int], ...] = ()
    shm_size_bytes: int = 0
    readonly: bool = False
    limits: StepLimits = StepLimits()
    tree: str = ""
    tree_of: int = 0
    keep: str = ""
    oci: OciOrder | None = None
    terminal: tuple[int, int] | None = None
    lasting: bool = False
    connecting: Connecting | None = None
    privileges: StepPrivileges = StepPrivileges()
    is_container: bool = False
    sharing: StepSharing = StepSharing()
    domainname: str = ""

    @property
    def insecure(self) -> bool:
        return self.security == "insecure"

    @property
    def own_network(self) -> bool:
        """Whether it does not have the network of the builder."""
        return self.network in OWN_NETWORK

    def start(self) -> StepStart:
        """Return the part that the zygote gets first.

        What is mounted from elsewhere, or from a store that is not all in one place, can only be
        found by a process that is made when it is asked for.
        """
        files_bytes = len(self.hosts or b"") + len(self.resolv_conf or b"")
        is_short = files_bytes <= _MOST_FILES_BYTES
        within = self.store + "/"
        places = (*self.lowers, self.upper, self.work, self.common or within)
        is_within = min(places).startswith(within) and max(places).startswith(within)
        kind = StepKind(
            network=self.network,
            limits=self.limits,
            hostname=self.hostname,
            hosts=self.hosts if is_short else None,
            resolv_conf=self.resolv_conf if is_short else None,
            store=self.store if is_within else "",
            usual=self.security == "sandbox"
            and self.network in ("default", "host", "connected")
            and not (self.connecting and self.connecting.once)
            and not (self.shm_size_bytes or self.mounts or self.oci or self.terminal)
            and not self.lasting
            and is_short,
            connecting=self.connecting,
        )
        return StepStart(kind, self.upper, self.work, self.lasting, self.sharing)


class StepExit(NamedTuple):
    """How the first process of a step, or a worker, ended.

    Attributes:
        status: its exit code, or 128 + n for signal n.
        seconds: from fork to the end of its namespace.
        max_rss_bytes: the largest resident set of any of its processes.
        peak_memory_bytes: the most that all of them had together, file cache included; 0 where
            no cgroup counts it.
        oom_killed: the kernel killed for memory while it ran, as far as can be told.
        out_of_processes: it wanted more processes than it may have.
        warnings: what was asked for and could not be had.
        cpu_seconds: of all processors, of it and of all children that were waited for.
    """

    status: int
    seconds: float = 0.0
    max_rss_bytes: int = 0
    peak_memory_bytes: int = 0
    oom_killed: bool = False
    out_of_processes: bool = False
    warnings: tuple[str, ...] = ()
    cpu_seconds: float = 0.0
