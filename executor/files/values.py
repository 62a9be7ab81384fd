"""The values that the functions of this room take and give, besides numbers and text."""

from __future__ import annotations

from pybuild.model.border import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


# --- trees that are read --------------------------------------------------------------------------


class DeltaStack(NamedTuple):
    """A snapshot: the directories of its deltas, base first."""

    deltas: Sequence[str]


class ClientDirectory(NamedTuple):
    """A directory of the client.

    Attributes:
        exclude: cleaned ignore patterns.
        git_modes: files have the modes that git would store for them.
        as_it_comes: what changes while it is read is taken as it was read, and is no fault.
    """

    local: str
    exclude: Sequence[str] = ()
    git_modes: bool = False
    as_it_comes: bool = False


class ExportTree(NamedTuple):
    """A snapshot that is written elsewhere.

    Attributes:
        lowers: the directories of its deltas, base first.
        mount_dir: an empty directory to mount it on.
        epoch: the time that all of it gets, in seconds; None leaves the times alone.
        prefix: the directory below which it comes in an archive.
        name: for messages.
        dest: the number of the descriptor of its directory, of those handed over.
        folder: the name of that directory where each tree has its own.
        stamp: the directory itself gets *epoch*, too.
    """

    lowers: Sequence[str]
    mount_dir: str
    userxattr: bool
    epoch: int | None = None
    prefix: str = ""
    name: str = ""
    dest: int = 0
    folder: str = ""
    stamp: bool = False


class RescueOrder(NamedTuple):
    """Files of a failed step that are wanted outside.

    Attributes:
        lowers, mount_dir, userxattr: as of an `ExportTree`.
        is_delta: all that the one delta in *lowers* has, and nothing else of this counts.
        pattern: a path in the tree, perhaps with wildcards; *shown*: the same for messages.
        strip, prefix: the directory of the tree that was mounted, and the mount's place in the step.
    """

    lowers: Sequence[str]
    mount_dir: str = ""
    userxattr: bool = False
    is_delta: bool = False
    pattern: str = ""
    shown: str = ""
    strip: str = ""
    prefix: str = ""


class Rescued(NamedTuple):
    """The files that came out, and those that did not.

    Attributes:
        large: the first names of those that would have been too many or too much; there were *large_count*.
        special: the number of devices, sockets, pipes, and of links that lead out.
        absent: the orders that nothing was there for.
    """

    files: int
    bytes: int
    large: Sequence[str] = ()
    large_count: int = 0
    special: int = 0
    absent: Sequence[str] = ()


class TreeDigest(NamedTuple):
    """The digest of a selection, and what it was made of as `model.named.Listing`."""

    digest: str
    entries: Sequence[tuple[str, str]]


class MissingPath(NamedTuple):
    """A path without wildcard that is not there, and what was perhaps meant.

    *above_pattern*: it is the directory whose entries a pattern is to match.
    """

    path: str
    hints: tuple[str, ...] = ()
    above_pattern: bool = False


class TreeEntry(NamedTuple):
    """One entry of a directory; *major* and *minor* are those of a device."""

    name: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    target: str
    major: int
    minor: int


# --- changes to a tree ----------------------------------------------------------------------------


class OwnerMode(NamedTuple):
    """Owner and mode of a directory."""

    uid: int
    gid: int
    mode: int


class OwnerNames(NamedTuple):
    """``--chown``: each a number, or a name to look up in the tree."""

    user: str
    group: str | None


class MakeDirectory(NamedTuple):
    """As `model.ops.Mkdir`."""

    path: str
    mode: int
    make_parents: bool
    owner: OwnerNames | None
    mtime_ns: int | None
    is_scratch: bool


class MakeFile(NamedTuple):
    """As `model.ops.Mkfile`."""

    path: str
    data: bytes
    mode: int
    make_parents: bool
    owner: OwnerNames | None
    mtime_ns: int | None
    is_scratch: bool


class MakeLink(NamedTuple):
    """As `model.ops.Symlink`."""

    path: str
    target: str
    owner: OwnerNames | None
    mtime_ns: int | None
    is_scratch: bool


class RemovePath(NamedTuple):
    """As `model.ops.Rm`."""

    path: str
    wildcard: bool
    allow_not_found: bool


class CopyPath(NamedTuple):
    """As `model.ops.Copy`; the tree of *is_scratch* has no owners to look names up in [CP-21]."""

    input: int
    source: str
    dest: str
    wildcard: bool
    allow_empty: bool
    contents_only: bool
    unpack: bool
    follow_source_links: bool
    parents_pivot: int | None
    make_parents: bool
    exclude: Sequence[str]
    mode: str | int | None
    owner: OwnerNames | None
    mtime_ns: int | None
    is_scratch: bool
    replace: bool = False


class Refresh(NamedTuple):
    """How a copy of a directory is brought up to date (`refreshing.Refresher`).

    Attributes:
        changed: the names to copy anew, by their directory.
        under: the base without the earlier copy.
    """

    changed: dict[str, list[str]]
    under: Sequence[str]


class Remark(NamedTuple):
    """A result of a copy that was hardly meant: ``nothing``, ``over``, ``owner``, ``large`` (`remarking`)."""

    kind: str
    values: Sequence[str]


class ActionFailure(NamedTuple):
    """The action, by its number, that went wrong, and the fault."""

    action: int
    kind: str
    message: str
    hints: Sequence[str]


class Applied(NamedTuple):
    """The change that a file op made.

    Attributes:
        additive: as `refreshing.is_additive` has it.
        met: paths below the last copied directory that its copy found taken.
        failure: of an action that went wrong, where what was there by then was to be kept.
    """

    additive: bool
    met: Sequence[str]
    remarks: Sequence[Remark] = ()
    failure: ActionFailure | None = None


TreeInput = DeltaStack | ClientDirectory
TreeAction = MakeDirectory | MakeFile | MakeLink | RemovePath | CopyPath
