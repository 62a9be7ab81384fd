"""``pybuild save``, ``load``, ``export`` and ``import``: images as files and back [RUN-24, STO-4]."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from io import BufferedWriter, FileIO
from typing import TYPE_CHECKING

from pybuild.arguments.environment import platforms_of
from pybuild.commandline.parser import Parsed
from pybuild.commands.images import find, open_store, parse_reference
from pybuild.engine.host import native_platform
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import EnvironmentFault, UsageError, UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.builds.request import BuildRequest
    from pybuild.cache.store import Store

_ROOTFS = "rootfs.tar"
_EXPORTING = "pybuild-export-"
_PIECE = 1 << 20
# What `docker import --change` takes; the rest would run something, or read files.
_CHANGES = ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "SHELL") + (
    ("STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
)


def save(parsed: Parsed) -> int:
    """Write images of the store to an archive, for ``docker load`` unless told otherwise."""
    from pybuild.exporter.atomicfile import whole_file
    from pybuild.image.archive import NamedImage, write_docker_archive, write_oci_archive
    from pybuild.image.manifest import resolve

    kind = parsed.one("format", "docker")
    if kind not in ("docker", "oci"):
        raise UsageError(f'archive format "{kind}": one of docker, oci')
    platform = _platform(parsed)

    def chosen(store: Store, descriptor: Descriptor) -> Descriptor:
        """The whole index goes into an OCI archive, without ``--platform``."""
        if kind == "oci" and platform is None:
            return descriptor
        own = native_platform()
        return resolve(descriptor, lambda b: store.blobs.read(b.digest), platform or own)[0]

    with open_store(parsed, to_read=True) as store:
        named: dict[Descriptor, list[str]] = {}
        for text in parsed.positionals:
            image = chosen(store, _held_image(store, text))
            names = named.setdefault(image, [])
            if (name := _name(store, text)) and name not in names:
                names.append(name)
        images = [NamedImage(descriptor, names) for descriptor, names in named.items()]
        write = write_oci_archive if kind == "oci" else write_docker_archive
        dest = parsed.one("output", "-")
        with whole_file(dest) as fd, _buffered(fd) as file:
            write(file, store.blobs.path, images)
    return 0


@contextmanager
def _buffered(fd: int) -> Generator[BufferedWriter[FileIO]]:
    """Give a file for *fd*; after a failure or a signal nothing more is written to what may be a pipe that nobody reads."""
    with BufferedWriter(FileIO(os.dup(fd), "w"), _PIECE) as file:
        try:
            yield file
        except BaseException:
            file.raw.close()
            raise


def _held_image(store: Store, text: str) -> Descriptor:
    """Find an image and keep it while it is written; on a full disk nothing can be promised."""
    try:
        return find(store, text, hold=True)
    except EnvironmentFault:
        return find(store, text)


def load(parsed: Parsed) -> int:
    """Take the images of an archive or OCI layout into the store, each with its names."""
    from pybuild.image.archive_read import read_archive

    source = parsed.one("input", "-")
    if source != "-" and not os.path.exists(source):
        hint = "name an archive that pybuild save, docker save or skopeo wrote"
        raise UserError(f"open {source}: no such file or directory", hints=[hint])
    with open_store(parsed) as store:
        scratch = store.scratch("load")
        os.mkdir(scratch)
        try:
            if source == "-":
                source = os.path.join(scratch, "stdin")
                _copy_standard_input(source)
            work = os.path.join(scratch, "files")
            os.mkdir(work)
            images = read_archive(source, work, store.blobs.adopt, store.blobs.path)
            for image in images:
                for name in image.names:
                    store.images.tag(name, image.descriptor)
                    sys.stdout.write(f"Loaded image: {Reference.parse(name).familiar}\n")
                if not image.names:
                    store.images.add_dangling(image.descriptor)
                    sys.stdout.write(f"Loaded image ID: {image.descriptor.digest}\n")
        finally:
            store.discard(scratch)
    return 0


def export(parsed: Parsed) -> int:
    """Write the file tree of an image as a tar, as a build of ``FROM image`` gives it."""
    from pybuild.builds.request import BuildRequest
    from pybuild.exporter.output import Output

    with open_store(parsed) as store, tempfile.TemporaryDirectory(prefix=_EXPORTING) as context:
        image, contexts = _source(store, parsed.positionals[0])
        request = BuildRequest(
            context=context,
            dockerfile_text=f"FROM {image}\n".encode(),
            named_contexts=contexts,
            platforms=platforms_of(parsed),
            outputs=(Output(type="tar", dest=parsed.one("output", "-")),),
        )
        _build(parsed, request)
    return 0


def import_(parsed: Parsed) -> int:
    """Make an image of one layer from a tar of a file tree: the image of a small Dockerfile."""
    from pybuild.builds.request import BuildRequest

    source, *names = parsed.positionals
    tags = tuple(parse_reference(name) for name in names)
    changes = [_checked_change(change) for change in parsed.many("change")]
    with tempfile.TemporaryDirectory(prefix="pybuild-import-") as context:
        path = os.path.join(context, _ROOTFS)
        if "://" in source:
            add = ["ADD", "--unpack=true", source, "/"]
            _fetch(parsed, source, context)
        else:
            add = ["ADD", _ROOTFS, "/"]
            _take(source, path)
        _check_archive(path, source)
        lines = ["FROM scratch", " ".join(add), *changes]
        request = BuildRequest(
            context=context,
            dockerfile_text="".join(f"{line}\n" for line in lines).encode(),
            platforms=platforms_of(parsed),
            tags=tags,
        )
        image_id = _build(parsed, request)
    sys.stdout.write(f"{image_id}\n")
    return 0


def _source(store: Store, name: str) -> tuple[str, dict[str, str]]:
    """The ``FROM`` of an image, and the named context that it may need: the store is an
    OCI layout, and so has images that go by an ID only. The image stays until *store* is closed."""
    image = store.images.held(name, store.lease)
    if image is None or _name(store, name):
        return str(parse_reference(name)), {}
    return "image", {"image": f"oci-layout://{store.root}@{image.digest}"}


def _build(parsed: Parsed, request: BuildRequest) -> str:
    """Run a build on the store that the options name; return the image's ID."""
    from pybuild.api import run_request
    from pybuild.engine.interruptible import run_interruptible
    from pybuild.engine.settings import load_settings
    from pybuild.progress.display import make_display

    settings = load_settings(parsed.one("config"), parsed.one("root"))
    display = make_display(parsed.one("progress", os.environ.get("BUILDKIT_PROGRESS", "auto")))
    try:
        result = run_interruptible(run_request(request, settings, display.show))
    finally:
        display.close()
    return str(result.image_id or "")


def _checked_change(change: str) -> str:
    """Return the line that *change* is.

    Raises:
        UsageError: it does more than to set what the image says of itself.
    """
    word = change.split(maxsplit=1)[0].upper() if change.strip() else ""
    if word not in _CHANGES or "\n" in change:
        raise UsageError(f'invalid change "{change}": one of {", ".join(_CHANGES)}')
    return change


def _fetch(parsed: Parsed, url: str, directory: str) -> None:
    """Bring what *url* holds to a file in *directory*; a build after that finds it in the cache."""
    from pybuild.builds.request import BuildRequest
    from pybuild.exporter.output import Output

    lines = f"FROM scratch\nADD --unpack=false {url} /{_ROOTFS}\n"
    output = Output(type="local", dest=directory)
    request = BuildRequest(context=directory, dockerfile_text=lines.encode(), outputs=(output,))
    _build(parsed, request)


def _check_archive(path: str, source: str) -> None:
    """See that ADD will unpack the file: what it takes for none is simply copied.

    Raises:
        UserError: it is no archive, or holds nothing.
    """
    from pybuild.executor.files.archives import open_archive
    from pybuild.executor.zygote.faults import Fault

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
        _copy_standard_input(path)
        return
    try:
        os.link(os.path.realpath(source), path)
        return
    except OSError:
        pass  # on another file system, or somebody else's
    try:
        shutil.copyfile(source, path)
    except OSError as error:
        raise UserError(f"open {source}: {(error.strerror or str(error)).lower()}") from error


def _copy_standard_input(path: str) -> None:
    """Keep standard input in a file.

    Raises:
        UsageError: it is a terminal.
    """
    if sys.stdin.isatty():
        raise UsageError("refusing to read an archive from a terminal", hints=["name a file"])
    with open(path, "xb") as file, os.fdopen(os.dup(0), "rb") as stream:
        shutil.copyfileobj(stream, file, _PIECE)


def _platform(parsed: Parsed) -> Platform | None:
    platforms = platforms_of(parsed)
    if len(platforms) > 1:
        raise UsageError(f"{parsed.one('platform')}: one platform at a time")
    return platforms[0] if platforms else None


def _name(store: Store, text: str) -> str:
    """The name that *text* is, if it is one and no ID."""
    try:
        name = str(Reference.parse(text))
    except ValueError:
        return ""
    return name if any(name in names for names, _ in store.images.list()) else ""
