"""The low-level definition: ops, vertices and the edges between them [ARC-5].

The shape follows LLB so that it can be printed as LLB and read from it. An op is what is done; a
vertex is an op with its input edges; a vertex's digest is over the canonical encoding of both.
Whatever must not count (names, source lines) is in `VertexMeta`, or marked ``compare=False``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from enum import StrEnum
from functools import cached_property

from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.encoding import INLINE, encode_op
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.resources import Resources
from pybuild.model.span import Span

HOST_GATEWAY = "host-gateway"
"""In place of an address: that of this machine, as a step sees it."""


class NetworkMode(StrEnum):
    DEFAULT = "default"
    NONE = "none"
    HOST = "host"


class SecurityMode(StrEnum):
    SANDBOX = "sandbox"
    INSECURE = "insecure"


class MountType(StrEnum):
    BIND = "bind"
    CACHE = "cache"
    TMPFS = "tmpfs"
    SECRET = "secret"
    SSH = "ssh"


class CacheSharing(StrEnum):
    SHARED = "shared"
    PRIVATE = "private"
    LOCKED = "locked"


# --- sources: ops without inputs ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchSource:
    """The empty file tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """The file tree of one platform's image.

    Attributes:
        digest: of the platform's manifest; with *layers* the only part that counts.
        layers: the number of its layers, from the base on, that make the tree; 0 for all of them.
        reference: the name it was asked for by, with or without a tag.
    """

    digest: Digest
    reference: Reference = field(compare=False)
    platform: Platform = field(compare=False)
    layers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSource:
    """A directory of the client: the build context or a named one.

    The definition has only its name; what counts of it is the content that copies and mounts
    select, so its users have content-based keys alone.

    Attributes:
        name: ``context``, ``dockerfile`` or a named context.
        exclude: lines of its ignore file, cleaned, in order [IGN-3].
    """

    name: str
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSource:
    """A file fetched by http(s) [ADD-4].

    Attributes:
        auth_secret: the id of a secret that is sent as ``Authorization``; empty: the secrets of the host.
        accept, user_agent: headers of the request; empty for ours.
        server_names: the server may give the file another name than *filename*.
    """

    url: str
    checksum: Digest | None = None
    filename: str = ""
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    auth_secret: str = ""
    accept: str = ""
    user_agent: str = ""
    server_names: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource:
    """A tree checked out of a git repository [ADD-7].

    Attributes:
        remote: URL, or ``user@host:path``; may hold credentials.
        ref: a branch, tag or commit; empty for the default branch.
        checksum: a prefix that the commit's id must have.
        mtime: ``commit`` gives every file the commit's time; otherwise that of the checkout.
        fetch_by_commit: *checksum* is the whole commit id, so the remote need not be asked.
        origin: the remote again, where others use the store: then it counts.
        known_hosts: keys of ssh hosts that count beside those the user knows, as lines of a
            ``known_hosts`` file.
        bundle: the URL of a blob, here already, that its commits come from; *checksum* is given.
        as_bundle: the result is one file ``bundle``, with the commit and its history.
    """

    remote: str
    ref: str = ""
    subdir: str = ""
    keep_git_dir: bool = False
    checksum: str = ""
    submodules: bool = True
    mtime: str = ""
    fetch_by_commit: bool = False
    origin: str = ""
    known_hosts: str = field(default="", compare=False)
    bundle: str = ""
    as_bundle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OciLayoutSource:
    """The file tree of an image in an OCI layout directory."""

    path: str = field(compare=False)
    digest: Digest
    platform: Platform = field(compare=False)


# --- exec -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount of an exec; the root file system is the mount whose target is ``/``.

    Attributes:
        input: index into the vertex's inputs; None is an empty tree (or no tree at all).
        selector: path inside the input that is mounted, ``/`` for all of it.
        output: whether what the step writes there is kept, as the vertex's only result.
        shared_output: another vertex of the same build is this very step, with that mount's
            content for its result; the step runs once for all of them.
        cache_id, sharing: of cache mounts; outside the key unless not the default [KEY-1].
        id, required, env: of secret and ssh mounts.
        value: of a secret that counts: a keyed digest of it, of no use without the store's key.
    """

    target: str
    type: MountType = MountType.BIND
    input: int | None = None
    selector: str = "/"
    readonly: bool = False
    output: bool = False
    shared_output: bool = field(default=False, compare=False)
    cache_id: str = ""
    sharing: CacheSharing = CacheSharing.SHARED
    tmpfs_size_bytes: int = 0
    id: str = ""
    required: bool = False
    env: str = ""
    uid: int = 0
    gid: int = 0
    mode: int | None = None
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMount:
    """A directory of the builder's machine in a step, as it is there: what it holds never counts.

    No frontend of a server and no LLB makes one; `pybuild.model.volumes` does, of the user's words.

    Attributes:
        discard_writes: they succeed and are lost.
    """

    target: str
    source: str = field(compare=False)
    readonly: bool = True
    discard_writes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device of the machine that a step may use, by its CDI name or class [RUN-7]."""

    name: str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSettings:
    """The surroundings of a step's process, as a request gives them to all of its steps.

    `pybuild.model.options` has the table of them: what people write, and what servers are sent.

    Attributes:
        hostname: empty for the default.
        add_hosts: ``(name, address)`` pairs; only names count [KEY-1].
        ulimits: ``(name, soft, hard)``.
        nameservers, search_domains, dns_options: in place of the machine's; never part of the key.
        resources: of cgroups; never part of the key [KEY-1].
    """

    network: NetworkMode = NetworkMode.DEFAULT
    hostname: str = ""
    add_hosts: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[tuple[str, int, int], ...] = ()
    shm_size_bytes: int = field(default=0, compare=False)
    nameservers: tuple[str, ...] = field(default=(), compare=False)
    search_domains: tuple[str, ...] = field(default=(), compare=False)
    dns_options: tuple[str, ...] = field(default=(), compare=False)
    resources: Resources = field(default_factory=Resources, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecOp:
    """Run a process in a file tree.

    Attributes:
        env: ``NAME=value`` in order, every ARG in scope included [EV-5].
        proxy_env: the predefined proxy variables; never part of the key [EV-11].
        owner: whose the step is, where what no key tells goes into it and others use the store.
        proxied: a proxy of ours is all that it can reach.
        settings: those of the request but for what the instruction says; they count as fields of the op.
    """

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str = ""
    mounts: tuple[Mount, ...]
    security: SecurityMode = SecurityMode.SANDBOX
    platform: Platform
    valid_exit_codes: tuple[int, ...] = (0,)
    proxy_env: tuple[str, ...] = field(default=(), compare=False)
    devices: tuple[Device, ...] = ()
    host_mounts: tuple[HostMount, ...] = ()
    owner: str = ""
    proxied: bool = False
    settings: StepSettings = field(default_factory=StepSettings, metadata={INLINE: True})


# --- file -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """``--chown``: each half is a number, or a name to look up in the base's passwd and group."""

    user: str = "0"
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Copy paths of an input into the tree [CP-1..33].

    Attributes:
        input: index into the vertex's inputs of where to copy from.
        source: path inside that input, cleaned and absolute; may be a Go ``filepath.Match``
            pattern where *wildcard*.
        dest: absolute; a trailing slash means a directory.
        allow_empty: a pattern that matches nothing is fine [CP-4].
        contents_only: a directory source gives its contents, not itself [CP-5].
        unpack: extract the source where it is a tar archive [ADD-1].
        require_unpack: ``--unpack=true``.
        follow_source_links: the source itself is followed when it is a symlink [CP-6].
        parents_pivot: for ``--parents``: how many leading components of the source are dropped.
        exclude: ignore-style patterns relative to the root of what is copied [CP-33].
        make_parents: missing directories above the destination are made; it fails otherwise.
        replace: what is in the way of an entry of another kind goes, whatever it is.
        mode: octal as an int, or symbolic text, or None to keep [CP-22].
        owner: None: keep the source's for snapshots, 0:0 for local sources [CP-20].
        mtime, mtime_ns: the time of all that is copied, in seconds, and the nanoseconds beyond them.
    """

    input: int
    source: str
    dest: str
    wildcard: bool = False
    allow_empty: bool = False
    contents_only: bool = True
    unpack: bool = False
    require_unpack: bool = False
    follow_source_links: bool = True
    parents_pivot: int | None = None
    make_parents: bool = True
    replace: bool = False
    exclude: tuple[str, ...] = ()
    mode: int | str | None = None
    owner: Owner | None = None
    mtime: int | None = None
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mkdir:
    """Make a directory and its missing parents; an existing one is left as it is."""

    path: str
    mode: int = 0o755
    make_parents: bool = True
    owner: Owner | None = None
    mtime: int | None = None
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mkfile:
    """Write a file, replacing what is there; missing parents are made as `Copy` makes them."""

    path: str
    data: bytes
    mode: int = 0o644
    make_parents: bool = True
    owner: Owner | None = None
    mtime: int | None = None
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Symlink:
    """Make a symbolic link."""

    path: str
    target: str
    owner: Owner | None = None
    mtime: int | None = None
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rm:
    """Remove a path and all below it."""

    path: str
    wildcard: bool = False
    allow_not_found: bool = False


FileAction = Copy | Mkdir | Mkfile | Symlink | Rm


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOp:
    """File actions done in order on input 0, the tree that they change; its result is one delta.

    LLB lets the actions of one op form a graph of their own. No frontend in use makes anything but
    a chain, so a chain it is here; a reader of LLB splits the rest into several ops.
    """

    actions: tuple[FileAction, ...]


# --- composition ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeOp:
    """Stack the inputs' trees on each other, the last one on top. Costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffOp:
    """The changes of input 1 over input 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassOp:
    """One of the inputs as it is, once all of them are there: the rest is made for what it does.

    Attributes:
        output: the number of that input.
        id: the client's; tells such ops apart.
    """

    output: int = 0
    id: str = ""


SourceOp = ScratchSource | ImageSource | LocalSource | HttpSource | GitSource | OciLayoutSource
Op = SourceOp | ExecOp | FileOp | MergeOp | DiffOp | PassOp


# --- the graph ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexMeta:
    """Facts about a vertex and its treatment that do not change its digest.

    Attributes:
        name: as progress shows it, ``[build 2/5] RUN make`` [UI-1].
        spans: the Dockerfile lines that made it.
        ignore_cache: do not look for a stored result (``--no-cache``); the new one is stored.
        max_age_s: a stored result that is older than so many seconds does not count.
        stage: name of the Dockerfile stage it belongs to, for grouping.
        secrets: values that the op may hold and that are never shown.
    """

    name: str = ""
    spans: tuple[Span, ...] = ()
    ignore_cache: bool = False
    max_age_s: float | None = None
    stage: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, eq=False)
class Vertex:
    """An op with its inputs. Each op has one result, so an edge is simply the vertex it comes from.

    Equality is by digest; *meta* does not count.
    """

    op: Op
    inputs: tuple[Vertex, ...] = ()
    meta: VertexMeta = VertexMeta()

    @cached_property
    def digest(self) -> Digest:
        """Digest of the definition up to here; inputs must have been digested first when deep."""
        return Digest.of_json({"op": encode_op(self.op), "inputs": [v.digest for v in self.inputs]})

    def __repr__(self) -> str:
        # Not the inputs: in a graph of diamonds their text would grow without bound.
        return f"<Vertex {type(self.op).__name__} {self.meta.name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vertex) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def walk(*targets: Vertex) -> Iterator[Vertex]:
    """Yield each vertex that the targets need, once, inputs before their users.

    Iterative, so that a chain of 10,000 vertices is no deeper than one of ten; after it every
    digest is known without recursion.
    """
    seen: set[int] = set()
    digests: set[Digest] = set()
    stack: list[tuple[Vertex, bool]] = [(v, False) for v in reversed(targets)]
    while stack:
        vertex, inputs_done = stack.pop()
        if inputs_done:
            if vertex.digest not in digests:
                digests.add(vertex.digest)
                yield vertex
        elif id(vertex) not in seen:
            seen.add(id(vertex))
            stack.append((vertex, True))
            stack.extend((v, False) for v in reversed(vertex.inputs))


def image_identity(op: ImageSource | OciLayoutSource) -> Digest:
    """Return the digest of an image's content: its manifest's, and of how many layers."""
    if isinstance(op, ImageSource) and op.layers:
        return Digest.of_json({"manifest": op.digest, "layers": op.layers})
    return op.digest
