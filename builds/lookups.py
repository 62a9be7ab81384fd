"""Lookups of a frontend while it answers, noted where they happen, for provenance [ATT-2]."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field

from pybuild.frontend.lowering.interface import ImageRequest
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.ops import Vertex


@dataclass(slots=True)
class Lookups:
    """The lookups of one answer.

    Attributes:
        images: with the digests of their manifests.
        vertices: contexts and the like that were fetched to be read.
        files: paths in directories of the client, by the directory's name.
    """

    images: list[tuple[ImageRequest, Digest]] = field(
        default_factory=list[tuple[ImageRequest, Digest]]
    )
    vertices: list[Vertex] = field(default_factory=list[Vertex])
    files: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


# By task, since several requests of a build may be answered at a time.
_CURRENT: ContextVar[Lookups | None] = ContextVar("look", default=None)


@contextmanager
def noting(lookups: Lookups | None) -> Generator[None]:
    """Note in *lookups* those of the body and of the tasks that it starts; None: note none."""
    token = _CURRENT.set(lookups)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def note_image(request: ImageRequest, manifest: Digest) -> None:
    lookups = _CURRENT.get()
    if lookups is not None:
        lookups.images.append((request, manifest))


def note_vertices(vertices: Iterable[Vertex]) -> None:
    lookups = _CURRENT.get()
    if lookups is not None:
        lookups.vertices += vertices


def note_files(directory: str, files: Iterable[str]) -> None:
    lookups = _CURRENT.get()
    if lookups is not None:
        lookups.files[directory] = (*lookups.files.get(directory, ()), *files)
