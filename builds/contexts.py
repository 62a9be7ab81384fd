"""Reads the inputs of a build: the Dockerfile, the ignore files, the local directories [IN, CTX]."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from pybuild.builds.contextfiles import DOCKERFILES, IGNORE, IGNORE_FILES, read_named
from pybuild.builds.contextkinds import ContextKind, is_remote_name, kind_of
from pybuild.builds.request import BuildRequest
from pybuild.builds.standardinput import StandardInput
from pybuild.frontend.ignore import parse_ignore
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.ops import ScratchSource, Vertex
from pybuild.model.snapshot import LocalTree
from pybuild.model.volumes import HostVolume, VolumeAccess, is_volume

if TYPE_CHECKING:
    from pybuild.frontend.lowering.contexts import VertexContext

BOTH_STDIN = "invalid argument: can't use stdin for both build context and dockerfile"
_EMPTY = "the Dockerfile cannot be empty"
AMBIGUOUS = "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"

GIT_MODES = "[internal] context files have the modes that git stores (--modes=keep: their own)"

# Between a local directory's name and that of the other build whose it is; no context is called so.
OF_BUILD = " of "

Files = dict[str, bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInputs:
    """Everything that a build reads before it knows any ops.

    Attributes:
        dockerfile: its bytes; *filename* as people named it, for messages.
        context: the vertex of a build context that is no directory of ours.
        trees: local sources by name: ``context``, named directories and volumes.
        others: named contexts that are no directories, as written.
        linked: named contexts that are results of other builds.
        files: the local files read so far with their content; None where one was looked for in
            vain. A memo of this build holds as long as they stay what they are.
    """

    dockerfile: bytes
    filename: str
    context: Vertex | None = None
    trees: Mapping[str, LocalTree]
    others: Mapping[str, str]
    linked: Mapping[str, VertexContext] = field(default_factory=dict[str, "VertexContext"])
    files: Mapping[str, bytes | None] = field(default_factory=dict[str, bytes | None])

    @property
    def contexts(self) -> Mapping[str, str]:
        """The named contexts as written; a directory has the name that it is known by."""
        named = (
            name
            for name in self.trees
            if name != "context" and OF_BUILD not in name and not is_volume(name)
        )
        return {**self.others, **{name: name for name in (*named, *self.linked)}}

    @property
    def context_trees(self) -> Mapping[str, VertexContext]:
        return self.linked

    @property
    def excludes(self) -> Mapping[str, tuple[str, ...]]:
        """By local source, the patterns of its ignore file."""
        return {name: tree.exclude for name, tree in self.trees.items()}


def load_inputs(request: BuildRequest, stdin: StandardInput) -> BuildInputs:
    """Read the Dockerfile and the ignore files where all of it is at hand (`is_at_hand`).

    Raises:
        UserError: no context, no Dockerfile, or unreadable.
    """
    files: Files = {}
    trees, others = named_contexts(request, files)
    text = request.dockerfile_text
    context: Vertex | None = None
    if kind_of(request.context) is ContextKind.STANDARD_INPUT:
        if request.dockerfile == "-":
            raise UserError(BOTH_STDIN)
        if request.dockerfile and text is None:
            raise UserError(AMBIGUOUS)
        dockerfile, filename = stdin.text() if text is None else text, "Dockerfile"
        if not dockerfile:
            hint = "send a Dockerfile or a tar: pybuild build - < Dockerfile; or name a directory"
            raise UserError("nothing came on standard input", hints=[hint], peer=_EMPTY)
        context = Vertex(ScratchSource())
    else:
        check_directory(request.context)
        path = None
        if text is not None:
            dockerfile, filename = text, "Dockerfile"
        elif request.dockerfile == "-":
            dockerfile, filename = stdin.text(), "Dockerfile"
        else:
            path = _dockerfile_path(request.context, request.dockerfile, files)
            dockerfile = read_dockerfile(path, request.context, files)
            filename = os.path.relpath(path) if request.dockerfile else os.path.basename(path)
        trees["context"] = local_context(request, request.context, path, files)
    return BuildInputs(
        dockerfile=dockerfile,
        filename=filename,
        context=context,
        trees=trees,
        others=others,
        files=files,
    )


def named_contexts(
    request: BuildRequest, files: Files
) -> tuple[dict[str, LocalTree], dict[str, str]]:
    """Return the named contexts: those that are directories, volumes too, and the others as written.

    Raises:
        UserError: no such directory, or its ignore file is wrong.
    """
    trees: dict[str, LocalTree] = {}
    others: dict[str, str] = {}
    for name, source in sorted(request.named_contexts.items()):
        if is_remote_name(source):
            others[name] = source
            continue
        check_directory(source)
        trees[name] = local_context(request, source, None, files)
    trees |= {one.tree: LocalTree(one.source) for one in request.volumes if one.in_key}
    return trees, others


def local_context(
    request: BuildRequest, path: str, dockerfile: str | None, files: Files
) -> LocalTree:
    """Return a directory as its ignore file shows it.

    Args:
        dockerfile: path of the Dockerfile, which may have an ignore file of its own.
    """
    ignored = _load_ignore(path, dockerfile, files)
    if request.ignore_from_git:
        from pybuild.builds.gitignored import git_ignored

        ignored += git_ignored(path)
    return LocalTree(os.path.realpath(path), ignored, request.git_modes)


def check_volume(volume: HostVolume, store: str) -> None:
    """Refuse a volume that shows steps the store at *store* while they change it.

    Raises:
        UserError: says why.
    """
    if volume.access is not VolumeAccess.WRITABLE and not volume.in_key:
        return
    inner, outer = os.path.realpath(store) + "/", volume.source + "/"
    if inner.startswith(outer) or outer.startswith(inner):
        where = "the store lies in it" if inner.startswith(outer) else "it lies in the store"
        raise UserError(
            f"the volume {volume.source} changes while steps run: {where}",
            hints=["name another directory, or keep the store elsewhere with --root"],
        )


def check_directory(path: str) -> None:
    """Refuse a path that is no directory.

    Raises:
        UserError: says why.
    """
    if not os.path.isdir(path):
        problem = "not a directory" if os.path.exists(path) else "no such directory"
        raise UserError(
            f'unable to prepare context: path "{path}": {problem}', hints=(_nearby(path),)
        )


def _nearby(path: str) -> str:
    """Return a hint about a context that is no directory."""
    if os.path.isfile(path):
        return f"the context is a directory, the file goes with -f: -f {path} ."
    from pybuild.model.suggest import nearest

    above, name = os.path.split(os.path.normpath(path))
    try:
        near = nearest(name, os.listdir(above or "."))
    except OSError:
        near = None
    if near:
        return f"did you mean {os.path.join(above, near)}?"
    return f"make it, or correct the path, which begins in {os.path.abspath(above)}"


def _others(path: str, context: str | None) -> str:
    """Return a hint about Dockerfiles near one that is not there."""
    places = [os.path.dirname(path), *([context] if context else [])]
    dockerfiles: list[str] = []
    for place in dict.fromkeys(os.path.abspath(place) for place in places):
        try:
            names = sorted(os.listdir(place))
        except OSError:
            continue
        for name in names:
            inner = os.path.join(place, name, "Dockerfile")
            if "dockerfile" in name.lower() or name == "Containerfile":
                dockerfiles.append(os.path.join(place, name))
            elif os.path.isfile(inner):
                dockerfiles.append(inner)
    if dockerfiles:
        shown = dict.fromkeys(os.path.relpath(one) for one in dockerfiles)
        return f"name it with -f: {', '.join([*shown][:3])}"
    return "name another file with -f, or write one: it begins with FROM image"


def _dockerfile_path(context: str, given: str, files: Files) -> str:
    if given:
        return os.path.abspath(given)
    path = default_dockerfile(os.path.abspath(context))
    for name in DOCKERFILES[: DOCKERFILES.index(os.path.basename(path))]:
        files[os.path.join(os.path.abspath(context), name)] = None
    return path


def default_dockerfile(context: str) -> str:
    """Return the path of the first of the usual names that is there; of the first if none is."""
    paths = [os.path.join(context, name) for name in DOCKERFILES]
    return next((path for path in paths if os.path.lexists(path)), paths[0])


def read_dockerfile(path: str, context: str | None, files: Files) -> bytes:
    """Read a Dockerfile of this machine; see `contextfiles.read_named`.

    Raises:
        UserError: it cannot be read, or is too large.
    """
    failed = "failed to read dockerfile"
    data = read_named(path, context, failed)
    if data is None:
        raise UserError(
            f"{failed}: open {os.path.basename(path)}: no such file or directory",
            hints=[_others(path, context)],
        )
    files[path] = data
    return data


def _load_ignore(context: str, dockerfile: str | None, files: Files) -> tuple[str, ...]:
    """The first of the ignore files that exists; they are never merged [IGN-1]."""
    candidates = [os.path.join(os.path.abspath(context), name) for name in IGNORE_FILES]
    if dockerfile is not None:
        candidates.insert(0, dockerfile + IGNORE)
    for path in candidates:
        data = files[path] = read_named(path, context, "failed to read ignore file")
        if data is None:
            continue
        try:
            return parse_ignore(data)
        except PybuildError as error:
            raise UserError(f"{path}: {error.message}", hints=error.hints) from error
    return ()
