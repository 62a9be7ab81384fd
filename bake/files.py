"""Bake files: found, told apart, and read into one definition."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pybuild.bake.composefile import Compose, read_compose
from pybuild.bake.composeparts import ComposeParts
from pybuild.bake.definition import BLOCKS, Definition, definition_of
from pybuild.bake.hcl.body import Body
from pybuild.bake.hcl.expressions import Function, Special
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError, UserError

# In the order in which they are read; what comes later counts.
DEFAULT_NAMES = (
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
)
_BLOCKS = frozenset((*BLOCKS, "function", "variable"))
_MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was read; *name* is how people named it."""

    name: str
    text: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Environs:
    """Values and functions that files may use beside their own.

    Attributes:
        given: variables that no file may set.
        lookup: gives the values of variables from outside, for HCL.
        environment: all of these, for compose files.
        functions: those of HCL.
    """

    given: Mapping[str, str]
    lookup: Callable[[str], str | None]
    environment: Mapping[str, str]
    functions: Mapping[str, Function | Special]


def read_files(names: Sequence[str], stdin: Callable[[], bytes]) -> list[File]:
    """Read the files of these *names*, else those of the default names that are there.

    Raises:
        UserError: one is not there, or there is none at all.
    """
    files: list[File] = []
    for name in names or DEFAULT_NAMES:
        if name == "-":
            files.append(File(name, stdin()))
            continue
        if names or os.path.exists(name):
            files.append(File(name, _content(name)))
    if not files:
        raise UserError(
            "couldn't find a bake definition",
            hints=[f"write docker-bake.hcl, or name a file with -f; {os.getcwd()} has none"],
        )
    return files


def _content(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise UserError(f"cannot read {name}: no such file") from error
    except OSError as error:
        raise UserError(f"cannot read {name}: {(error.strerror or '').lower()}") from error
    if len(text) > _MOST_BYTES:
        raise UserError(f"{name}: a bake file has at most {_MOST_BYTES >> 20} MiB")
    return text


def _part(name: str) -> bytes:
    """Return the content of a file that another one names; nothing is waited for."""
    if os.path.exists(name) and not os.path.isfile(name):
        raise UserError(f"cannot read {name}: it is no file")
    return _content(name)


def read_definition(files: Sequence[File], around: Environs) -> Definition:
    """Return the definition that *files* make together.

    Raises:
        UserError: one is wrong; with its line.
    """
    composed: list[Compose] = []
    bodies: list[Body] = []
    for file in files:
        try:
            read = _read(file, around)
        except PybuildError as error:
            raise _showing(error, files) from error
        if isinstance(read, Body):
            bodies.append(read)
        else:
            composed.append(read)
    made = Definition()
    if composed:
        parts = ComposeParts(around.environment, _part)
        whole = [one for file in composed for one in parts.whole(file)]
        made = replace(read_compose(whole, around.environment), parts=tuple(parts.files))
    if bodies:
        from pybuild.bake.hcl.definitions import Definitions

        try:
            scope = Definitions(
                bodies,
                lookup=around.lookup,
                given=around.given,
                functions=around.functions,
                fields=BLOCKS,
            )
            made = definition_of(scope).over(made)
        except PybuildError as error:
            raise _showing(error, files) from error
        except RecursionError as error:
            raise UserError(
                "the values of the definition refer to each other too deeply"
            ) from error
    return made


def _showing(error: PybuildError, files: Sequence[File]) -> PybuildError:
    """Return an error with the lines of the files that it may be about."""
    lines = {file.name: file.text.decode(errors="replace").splitlines() for file in files}
    return error.showing(lines) if error.spans else error


def _read(file: File, around: Environs) -> Body | Compose:
    lower = file.name.lower()
    if lower.endswith((".yml", ".yaml")):
        return Compose.parse(file.name, file.text, around.environment)
    if lower.endswith(".json"):
        from pybuild.bake.hcl.jsonbody import read_json

        return read_json(file.text, file.name, _BLOCKS)
    if lower.endswith(".hcl"):
        from pybuild.bake.hcl.syntax import read_hcl

        return read_hcl(file.text, file.name)
    return _guess(file, around)


def _guess(file: File, around: Environs) -> Body | Compose:
    """Read a file whose name says nothing: as compose, HCL or JSON, whichever it can be."""
    from pybuild.bake.hcl.jsonbody import read_json
    from pybuild.bake.hcl.syntax import read_hcl

    try:
        return Compose.parse(file.name, file.text, around.environment)
    except UserError:
        pass
    try:
        return read_hcl(file.text, file.name)
    except UserError as error:
        try:
            return read_json(file.text, file.name, _BLOCKS)
        except UserError:
            raise error from None
