"""A build's inputs on this machine: directories, files, standard input [CTX]."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from pybuild.builds.contextfiles import IGNORE, IGNORE_FILES, is_linked, read_named
from pybuild.builds.contextkinds import ContextKind, git_context, is_remote_name, kind_of
from pybuild.builds.contexts import AMBIGUOUS, BOTH_STDIN, check_directory, default_dockerfile
from pybuild.builds.request import BuildRequest
from pybuild.builds.standardinput import StandardInput
from pybuild.frontend.giturl import is_http
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, UserError

if TYPE_CHECKING:
    from pybuild.client.content import BlobDirectory
    from pybuild.client.upload import Input

_LAYOUT = "oci-layout:"
_UPLOAD = "http://buildkit-session/"


@dataclass(slots=True)
class OfferedInputs:
    """The parts of this machine that the server may have.

    Attributes:
        attrs: the frontend's attributes for them.
        directories: by the frontend's names for them.
        uploads: by id.
        stores: OCI layouts, as the content service calls them.
        filenames: people's names of files, by the server's names.
        download: a Dockerfile to be fetched into the directory "dockerfile" first; its URL.
        shared_key: equal for equal directories.
    """

    attrs: dict[str, str] = field(default_factory=dict[str, str])
    directories: dict[str, str] = field(default_factory=dict[str, str])
    uploads: dict[str, Callable[[], Input]] = field(
        default_factory=dict[str, "Callable[[], Input]"]
    )
    stores: dict[str, BlobDirectory] = field(default_factory=dict[str, "BlobDirectory"])
    filenames: dict[str, str] = field(default_factory=dict[str, str])
    download: str = ""
    shared_key: str = ""


def gather(request: BuildRequest, stdin: StandardInput, scratch: str) -> OfferedInputs:
    """Look at the inputs of *request*; may wait for standard input.

    Args:
        scratch: an empty directory of ours, for files that must have a place.

    Raises:
        UserError: there is no such context or Dockerfile.
    """
    offered = OfferedInputs()
    offered.attrs["filename"] = "Dockerfile"
    kind = kind_of(request.context)
    match kind:
        case ContextKind.DIRECTORY:
            check_directory(request.context)
            offered.directories["context"] = os.path.realpath(request.context)
            offered.shared_key = _shared_key(offered.directories["context"])
        case ContextKind.GIT:
            git_context(request.context)
            offered.attrs["context"] = request.context
        case ContextKind.HTTP:
            offered.attrs["context"] = request.context
        case ContextKind.STANDARD_INPUT:
            _standard_input(offered, request, stdin, scratch)
    if "dockerfile" not in offered.directories:
        _dockerfile(offered, request, stdin, scratch)
    _named_contexts(offered, request)
    return offered


def _standard_input(
    offered: OfferedInputs, request: BuildRequest, stdin: StandardInput, scratch: str
) -> None:
    given = request.dockerfile
    if given == "-":
        raise UserError(BOTH_STDIN)
    if stdin.is_archive():
        id = os.urandom(16).hex()
        offered.uploads[id] = lambda: stdin
        offered.attrs["context"] = _UPLOAD + id
        return
    if given and request.dockerfile_text is None:
        raise UserError(AMBIGUOUS)
    if request.dockerfile_text is None:
        _place(offered, stdin.text(), scratch)
    empty = os.path.join(scratch, "context")
    os.mkdir(empty)
    offered.directories["context"] = empty


def _dockerfile(
    offered: OfferedInputs, request: BuildRequest, stdin: StandardInput, scratch: str
) -> None:
    """Note the Dockerfile's place: in the context, beside it, or in a directory of its own."""
    given, is_local = request.dockerfile, "context" in offered.directories
    if request.dockerfile_text is not None:
        _place(offered, request.dockerfile_text, scratch)
    elif given == "-":
        _place(offered, stdin.text(), scratch)
    elif is_http(given):
        offered.download = given
        _place(offered, None, scratch)
    elif is_local or os.path.isabs(given):
        within = request.context if is_local else ""
        _beside(offered, within, given, scratch, request.ignore_from_git)
    elif given:
        offered.attrs["filename"] = given


def _beside(
    offered: OfferedInputs, context: str, given: str, scratch: str, ignores_from_git: bool
) -> None:
    """Use the Dockerfile *given*, or that of the context, where it stands: its ignore file too.

    One that is reached through links, which lead nowhere from where they are sent to, is copied.
    """
    path = os.path.abspath(given) if given else default_dockerfile(os.path.abspath(context))
    folder, name = os.path.split(path)
    within = context or None
    data = read_named(path, within, "failed to read dockerfile")
    if data is None:
        raise UserError(
            f"failed to read dockerfile: open {name}: no such file or directory",
            hints=["name another file with -f"],
        )
    ignore = path + IGNORE
    own = read_named(ignore, within, "failed to read ignore file")
    more = b"" if within is None else _ignore_file_to_send(within, own, ignores_from_git)
    files = {name: data, name + IGNORE: more or own}
    if more or is_linked(path, within) or is_linked(ignore, within):
        folder = _put(files, scratch)
    offered.directories["dockerfile"] = folder
    offered.attrs["filename"] = name
    if "context" in offered.attrs:
        offered.attrs["dockerfilekey"] = "dockerfile"
        offered.filenames[name] = given
    else:
        offered.filenames[name] = os.path.relpath(path) if given else name


def _ignore_file_to_send(context: str, own: bytes | None, from_git: bool) -> bytes:
    """Return the ignore file to send where servers would not find all of it; empty where they do."""
    failed = "failed to read ignore file"
    text = own if own is not None else read_named(f"{context}/{IGNORE}", context, failed)
    is_other = text is None
    if text is None:
        text = read_named(os.path.join(context, IGNORE_FILES[1]), context, failed)
    if from_git:
        from pybuild.builds.gitignored import git_ignored

        patterns = "".join(f"{pattern}\n" for pattern in git_ignored(context))
        return (text or b"") + b"\n" + os.fsencode(patterns)
    return (text or b"") if is_other else b""


def _place(offered: OfferedInputs, text: bytes | None, scratch: str) -> None:
    """Give a Dockerfile without a place one."""
    offered.directories["dockerfile"] = _put({"Dockerfile": text}, scratch)
    if "context" in offered.attrs:
        offered.attrs["dockerfilekey"] = "dockerfile"


def _put(files: Mapping[str, bytes | None], scratch: str) -> str:
    """Return a new directory with those of *files* that have content."""
    folder = os.path.join(scratch, "dockerfile")
    os.mkdir(folder)
    for name, data in files.items():
        if data is not None:
            with open(os.path.join(folder, name), "xb") as file:
                file.write(data)
    return folder


def _named_contexts(offered: OfferedInputs, request: BuildRequest) -> None:
    for name, source in sorted(request.named_contexts.items()):
        if source.startswith(_LAYOUT):
            place = source.removeprefix(_LAYOUT).removeprefix("//")
            offered.attrs[f"context:{name}"] = _layout(offered, place)
        elif is_remote_name(source):
            offered.attrs[f"context:{name}"] = source
        else:
            check_directory(source)
            offered.directories[name] = os.path.realpath(source)
            offered.attrs[f"context:{name}"] = f"local:{name}"


def _layout(offered: OfferedInputs, text: str) -> str:
    """Offer an OCI layout; its tags are looked up here, where its index is."""
    from pybuild.cache.content.layoutdirectory import LayoutDirectory, parse_layout
    from pybuild.client.content import BlobDirectory
    from pybuild.image.manifest import MAX_MANIFEST_BYTES

    path, tag, digest = parse_layout(text)
    layout = LayoutDirectory(path)
    manifest = layout.find(tag, digest)
    if manifest.size > MAX_MANIFEST_BYTES:
        raise EnvironmentFault(f"{path}: {manifest.digest} is too large for a manifest")
    name = f"layout{len(offered.stores)}"
    offered.stores[f"oci:{name}"] = BlobDirectory(layout.path)
    return f"oci-layout://{name}@{manifest.digest}"


def _shared_key(path: str) -> str:
    """Return a name for a directory of this user on this machine that does not show its path."""
    seed = f"{socket.gethostname()}\0{os.getuid()}\0{path}"
    return hashlib.sha256(seed.encode("utf-8", "surrogateescape")).hexdigest()
