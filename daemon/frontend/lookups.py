"""What a frontend looks at while it answers, noted where it happens and kept for provenance [ATT-2]."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field

from pybuild.exporter.attest.sources import Image
from pybuild.model.dataclass import dataclass
from pybuild.model.ops import Vertex


@dataclass(slots=True)
class Look:
    """What one answer took.

    Attributes:
        images: those that were asked for, under the names they were asked by.
        vertices: contexts and the like that were fetched to be read.
        files: which files of which directory of the client were asked for.
    """

    images: list[Image] = field(default_factory=list[Image])
    vertices: list[Vertex] = field(default_factory=list[Vertex])
    files: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


# By task, since several requests of a build may be answered at a time.
_CURRENT: ContextVar[Look | None] = ContextVar("look", default=None)


@contextmanager
def looking(look: Look | None) -> Generator[None]:
    """Note in *look* what the body and the tasks that it starts take; None for nowhere."""
    token = _CURRENT.set(look)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def note_image(image: Image) -> None:
    look = _CURRENT.get()
    if look is not None:
        look.images.append(image)


def note_vertices(vertices: Iterable[Vertex]) -> None:
    look = _CURRENT.get()
    if look is not None:
        look.vertices += vertices


def note_files(directory: str, files: Iterable[str]) -> None:
    look = _CURRENT.get()
    if look is not None:
        look.files[directory] = (*look.files.get(directory, ()), *files)
