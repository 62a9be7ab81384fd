"""An image of one layer out of a tar of a file tree: that of a small Dockerfile [RUN-24]."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence

from pybuild.builds.request import BuildRequest
from pybuild.builds.standardinput import copy_archive
from pybuild.executor.files.archives import open_archive
from pybuild.executor.zygote.faults import Fault
from pybuild.exporter.output import Output
from pybuild.model.errors import EnvironmentFault, UsageError, UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

Build = Callable[[BuildRequest], str]
"""Makes a build; returns the image's ID."""

_ROOTFS = "rootfs.tar"
# What `docker import --change` takes; the rest would run something, or read files.
_CHANGES = ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "SHELL") + (
    ("STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
)


def import_image(
    source: str,
    changes: Sequence[str],
    build: Build,
    *,
    platforms: Sequence[Platform],
    tags: Sequence[Reference],
) -> str:
    """Make the image; return its ID.

    Args:
        source: a file, a URL, or ``-`` for standard input.
        changes: lines of a Dockerfile that set what the image says of itself.

    Raises:
        UsageError: a change does more than that.
        UserError: the source is no archive.
    """
    lines = [checked_change(change) for change in changes]
    with tempfile.TemporaryDirectory(prefix="pybuild-import-") as context:
        path = os.path.join(context, _ROOTFS)
        if "://" in source:
            add = ["ADD", "--unpack=true", source, "/"]
            _fetch(source, context, build)
        else:
            add = ["ADD", _ROOTFS, "/"]
            _take(source, path)
        _check_archive(path, source)
        lines = ["FROM scratch", " ".join(add), *lines]
        request = BuildRequest(
            context=context,
            dockerfile_text="".join(f"{line}\n" for line in lines).encode(),
            platforms=tuple(platforms),
            tags=tuple(tags),
        )
        return build(request)


def checked_change(change: str) -> str:
    """Return the line that *change* is.

    Raises:
        UsageError: it does more than to set what the image says of itself.
    """
    word = change.split(maxsplit=1)[0].upper() if change.strip() else ""
    if word not in _CHANGES or "\n" in change:
        raise UsageError(f'invalid change "{change}": one of {", ".join(_CHANGES)}')
    return change


def _fetch(url: str, directory: str, build: Build) -> None:
    """Bring what *url* holds to a file in *directory*; a build after that finds it in the cache."""
    lines = f"FROM scratch\nADD --unpack=false {url} /{_ROOTFS}\n"
    output = Output(type="local", dest=directory)
    request = BuildRequest(context=directory, dockerfile_text=lines.encode(), outputs=(output,))
    build(request)


def _check_archive(path: str, source: str) -> None:
    """See that ADD will unpack the file: what it takes for none is simply copied.

    Raises:
        UserError: it is no archive, or holds nothing.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        is_archive = open_archive(fd) is not None
    except Fault as error:
        raise EnvironmentFault(error.message, hints=error.hints) from error
    finally:
        os.close(fd)
    if not is_archive:
        shown = "standard input" if source == "-" else source
        raise UserError(
            f"{shown} is no tar archive with files in it",
            hints=[
                "import takes a tar of a file tree, plain or compressed by gzip, bzip2, xz or zstd"
            ],
        )


def _take(source: str, path: str) -> None:
    """Bring a file, or standard input, to *path*.

    Raises:
        UserError: it cannot be read.
    """
    if source == "-":
        copy_archive(path)
        return
    try:
        os.link(os.path.realpath(source), path)
        return
    except OSError:
        pass  # on another file system, or somebody else's
    try:
        shutil.copyfile(source, path)
    except OSError as error:
        raise UserError(
            f"open {source}: {(error.strerror or str(error)).lower()}",
            hints=["name a tar of a root file system, or - for standard input"],
        ) from error
