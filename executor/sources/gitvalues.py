"""The values that the worker functions for git repositories take and give."""

from __future__ import annotations

from pybuild.model.border import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class GitRemote(NamedTuple):
    """A remote, and how it is reached.

    Attributes:
        url: without credentials; *shown* is for messages.
        mirror: its repository in the store.
        header: the Authorization header for everything below *scope*.
        hidden: what no message may show.
        environ: what git has of the caller's environment.
        ssh_command: the program for remotes of ssh; else empty.
        max_bytes: the most that may be fetched.
        bundle: a file that the commits come from instead; else empty.
    """

    url: str
    shown: str
    mirror: str
    scope: str
    header: str
    hidden: Sequence[str]
    environ: Mapping[str, str]
    ssh_command: str
    max_bytes: int
    bundle: str = ""


class GitCommit(NamedTuple):
    """The objects that a ref names at the moment.

    Attributes:
        object: a commit or an annotated tag; *commit*: the commit itself, or the tag's.
        ref: the full name, or "" for a bare commit id.
    """

    object: str
    commit: str
    ref: str


class Checkout(NamedTuple):
    """A commit's tree, and where it comes.

    Attributes:
        target: an empty directory; *scratch*: another one beside it, for this call alone.
        subdir: relative, clean, or empty; *keep_git_dir*, *submodules*: as in `GitSource`.
        mtime: ``commit`` gives every file the commit's time.
        checksum: a prefix that the commit or its tag must have.
        bundle: the name that the commit has in a bundle, which is made in place of the tree; else empty.
    """

    target: str
    scratch: str
    subdir: str
    keep_git_dir: bool
    submodules: bool
    mtime: str
    checksum: str
    bundle: str = ""
