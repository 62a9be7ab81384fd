"""The names that an image gets: the tags of the build and those of its output [OUT]."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.exporter.output import Output
from pybuild.model.errors import UsageError
from pybuild.model.reference import Reference


def output_names(tags: Sequence[Reference], output: Output) -> list[Reference]:
    """Return the names that an image gets, each once.

    Raises:
        UsageError: one that an image cannot have.
    """
    names = list(tags)
    for text in filter(None, output.attrs.get("name", "").split(",")):
        try:
            reference = Reference.parse(text)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if reference not in names:
            names.append(reference)
    for name in names:
        if name.digest is not None:
            raise UsageError(f'"{name}": an image cannot be named by a digest')
    return names


def check_tagless(names: Sequence[Reference]) -> None:
    """Refuse tags where only the digest is to name the image.

    Raises:
        UsageError: one has a tag; ``latest`` may be what a name without one was completed with.
    """
    for name in names:
        if name.tag not in (None, "latest"):
            raise UsageError(f"can't push tagged ref {name} by digest")
