"""Refuses outputs that cannot be written, before anything is built for them [OUT].

Nothing is made here: whether a place takes files is tried with files that have no name.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING

from pybuild.exporter.annotations import AnnotationPlace
from pybuild.exporter.output import check_tagless, output_names
from pybuild.model.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.exporter.output import Output
    from pybuild.model.reference import Reference

_NOT_HERE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


def check_outputs(outputs: Sequence[Output], tags: Sequence[Reference], *, is_index: bool) -> None:
    """Look where a result is to go. Touches the disk.

    Args:
        tags: of the build; *is_index*: it is for several platforms, or attested.

    Raises:
        UsageError: an output means nothing for this build; or as `check_places`.
        EnvironmentFault: as `check_places`.
    """
    check_names(outputs, tags)
    for output in outputs:
        if output.type == "docker" and not output.flag("tar", True):
            raise UsageError("output type=docker is always a tar file", hints=["use type=oci"])
        if output.is_image:
            notes = output.annotations()
            if not is_index and (
                notes.of(AnnotationPlace.INDEX) or notes.of(AnnotationPlace.INDEX_DESCRIPTOR)
            ):
                raise UsageError(
                    "index annotations not supported for single platform export",
                    hints=[
                        "annotate the manifest",
                        "several platforms or attestations make an index",
                    ],
                )
    check_places(outputs)


def check_places(outputs: Sequence[Output]) -> None:
    """Look at the files and directories that *outputs* name.

    Raises:
        UsageError: something else is in their place.
        EnvironmentFault: nothing can be written there.
    """
    for output in outputs:
        if output.dest == "-":
            if sys.stdout is not None and sys.stdout.isatty():
                raise UsageError(
                    "dest file is required: refusing to write a tar file to a terminal"
                )
        elif output.type == "local" or (output.dest and not output.flag("tar", True)):
            check_directory(output.dest, "output", is_layout=output.type == "oci")
        elif output.dest:
            check_file(output.dest)


def check_file(dest: str) -> None:
    """Look whether a file can be written whole; raises as `check_places`."""
    from pybuild.exporter.atomicfile import place_of

    path, is_replaceable = place_of(dest)
    if is_replaceable:
        _try(os.path.dirname(path), f"output {dest}")


def check_names(outputs: Sequence[Output], tags: Sequence[Reference]) -> None:
    """Look at the names that images get.

    Raises:
        UsageError: one that an image cannot have, or none for one that is to be pushed.
    """
    for output in outputs:
        if not output.is_image:
            continue
        names = output_names(tags, output)
        if output.flag("push-by-digest"):
            check_tagless(names)
        if output.pushes and not names:
            hint = "name the image with -t"
            raise UsageError("tag is needed when pushing to registry", hints=[hint])


def check_directory(dest: str, what: str, *, is_layout: bool) -> None:
    """Look at a directory, or at the one that it would be made in; raises as `check_places`.

    Args:
        what: goes there, for the error.
        is_layout: the directory has to be an OCI layout if there is anything in it.
    """
    from pybuild.exporter.atomicfile import refuse_planted

    # What is written into a tree follows no links; a layout's directories are named by paths.
    refuse_planted(dest, *(("blobs/sha256/x", "blobs/sha512/x") if is_layout else ()))
    path = os.path.abspath(dest)
    while True:
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            parent = os.path.dirname(path)
            if os.path.islink(path) or parent == path:
                raise UsageError(f"{what} directory {dest}: {path} leads nowhere") from None
            path = parent
            continue
        except NotADirectoryError:
            path = os.path.dirname(path)
            continue
        except OSError as error:
            raise _refusal(f"{what} {dest}", error) from error
        break
    if not stat.S_ISDIR(mode):
        hint = f"{path} is in the way: name another place"
        raise UsageError(f"{what} directory {dest}: {path} is not a directory", hints=[hint])
    if is_layout:
        from pybuild.image.archive import check_layout  # seldom wanted

        check_layout(dest)
    _try(path, f"{what} {dest}")


def _try(directory: str, what: str) -> None:
    """Make a file without a name in *directory*; where that is unknown, one that is gone at once."""
    try:
        try:
            os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            import tempfile

            with tempfile.TemporaryFile(dir=directory):
                pass
    except OSError as error:
        raise _refusal(what, error) from error


def _refusal(what: str, error: OSError) -> EnvironmentFault:
    reason = (error.strerror or str(error)).lower()
    return EnvironmentFault(f"cannot write {what}: {reason}")
