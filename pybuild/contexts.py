"""Reads what a build starts from: the Dockerfile, the ignore files, the local directories [IN, CTX]."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pybuild.frontend.ignore import parse_ignore
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.snapshot import LocalTree
from pybuild.request import BuildRequest

_MAX_DOCKERFILE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInputs:
    """Everything local that a build reads before it knows any ops.

    Attributes:
        dockerfile: its bytes; *filename* as people named it, for messages.
        trees: local sources by name: ``context`` and named directories.
        others: named contexts that are no directories, as written.
        files: the files read so far with their content; None where one was looked for in vain.
            A memo of this build holds as long as they stay what they are.
    """

    dockerfile: bytes
    filename: str
    trees: Mapping[str, LocalTree]
    others: Mapping[str, str]
    files: Mapping[str, bytes | None]


def load_inputs(request: BuildRequest) -> BuildInputs:
    """Read the Dockerfile and the ignore files.

    Raises:
        UserError: no context, no Dockerfile, unreadable, or a kind of context not supported.
    """
    files: dict[str, bytes | None] = {}
    trees: dict[str, LocalTree] = {}
    text = request.dockerfile_text
    if request.context == "-":
        if request.dockerfile == "-":
            raise UserError(
                "invalid argument: can't use stdin for both build context and dockerfile"
            )
        data = _stdin()
        if _is_archive(data):
            raise UserError(
                "a tar archive as build context on standard input is not supported yet",
                hints=["unpack it and give the directory"],
            )
        dockerfile, filename, path = data, "Dockerfile", None
    else:
        _check_directory(request.context, "context")
        if text is not None:
            dockerfile, filename, path = text, "Dockerfile", None
        elif request.dockerfile == "-":
            dockerfile, filename, path = _stdin(), "Dockerfile", None
        else:
            path = _dockerfile_path(request.context, request.dockerfile, files)
            dockerfile = _read(path, "failed to read dockerfile", files)
            filename = os.path.relpath(path) if request.dockerfile else os.path.basename(path)
        exclude = _load_ignore(request.context, path, files)
        trees["context"] = LocalTree(os.path.realpath(request.context), exclude)
    others: dict[str, str] = {}
    for name, source in sorted(request.named_contexts.items()):
        if "://" in source or source.startswith("git@"):
            others[name] = source
            continue
        _check_directory(source, f'named context "{name}"')
        trees[name] = LocalTree(os.path.realpath(source), _load_ignore(source, None, files))
    return BuildInputs(
        dockerfile=dockerfile, filename=filename, trees=trees, others=others, files=files
    )


def _check_directory(path: str, what: str) -> None:
    if "://" in path or path.startswith(("git@", "github.com/")):
        raise UserError(
            f'{what} "{path}": remote contexts are not supported yet',
            hints=["fetch it and give the directory"],
        )
    if not os.path.isdir(path):
        problem = "not a directory" if os.path.exists(path) else "no such directory"
        raise UserError(f'unable to prepare context: path "{path}": {problem}')


def _dockerfile_path(context: str, given: str, files: dict[str, bytes | None]) -> str:
    if given:
        return os.path.abspath(given)
    path = os.path.join(os.path.abspath(context), "Dockerfile")
    lower = os.path.join(os.path.abspath(context), "dockerfile")
    if not os.path.lexists(path) and os.path.lexists(lower):
        files[path] = None
        return lower
    return path


def _read(path: str, failed: str, files: dict[str, bytes | None]) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_DOCKERFILE_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = [] if error.errno != 2 else ["name another file with -f"]
        name = os.path.basename(path) if error.errno == 2 else path
        raise UserError(f"{failed}: open {name}: {reason}", hints=hint) from error
    if len(data) > _MAX_DOCKERFILE_BYTES:
        raise UserError(f"{failed}: {path}: larger than 64 MiB")
    files[path] = data
    return data


def _load_ignore(
    context: str, dockerfile: str | None, files: dict[str, bytes | None]
) -> tuple[str, ...]:
    """The first of the two ignore files that exists; they are never merged [IGN-1]."""
    candidates = [os.path.join(os.path.abspath(context), ".dockerignore")]
    if dockerfile is not None:
        candidates.insert(0, dockerfile + ".dockerignore")
    for path in candidates:
        if not os.path.exists(path):
            files[path] = None
            continue
        data = _read(path, "failed to read ignore file", files)
        try:
            return parse_ignore(data)
        except PybuildError as error:
            raise UserError(f"{path}: {error.message}", hints=error.hints) from error
    return ()


def _stdin() -> bytes:
    """All of standard input; by its descriptor, because a reader that is left behind in
    `sys.stdin` holds a lock that the interpreter's exit needs."""
    data = bytearray()
    while block := os.read(0, 1 << 20):
        data += block
        if len(data) > _MAX_DOCKERFILE_BYTES:
            raise UserError("failed to read standard input: larger than 64 MiB")
    return bytes(data)


def _is_archive(data: bytes) -> bool:
    magics = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
    return data.startswith(magics) or data[257:262] == b"ustar"
