"""Outputs of a build by a server: its exporters, and the takers of their output here [OUT, 7.3]."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from pybuild.buildkit.pb import control as pb
from pybuild.builds.request import BuildRequest
from pybuild.exporter.check import check_places
from pybuild.exporter.directories import make_output
from pybuild.exporter.output import Output
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError, StepError, UsageError, UserError
from pybuild.model.reference import Reference
from pybuild.model.text import join_csv

if TYPE_CHECKING:
    from pybuild.client.content import BlobDirectory
    from pybuild.client.filesend import ToDirectory, ToStream

EXPORT = "export"
_IMAGES = ("image", "registry", "oci", "docker")


@dataclass(slots=True)
class Exports:
    """All outputs of one build.

    Attributes:
        exporters: for the server, in the order of the outputs that need one.
        targets: the takers of their output, by number.
        layout: the OCI layout directory that one of them writes, with the image's names.
        store: of the blobs of that layout.
        leftovers: the place of files of a failed step.
        faults: errors of this machine while outputs were taken.
    """

    exporters: list[pb.Exporter] = field(default_factory=list[pb.Exporter])
    targets: dict[int, ToDirectory | ToStream] = field(
        default_factory=dict[int, "ToDirectory | ToStream"]
    )
    layout: str = ""
    names: tuple[str, ...] = ()
    store: BlobDirectory | None = None
    image_names: tuple[str, ...] = ()
    leftovers: ToDirectory | None = None
    faults: list[PybuildError] = field(default_factory=list[PybuildError])


def plan(request: BuildRequest) -> Exports:
    """Check every output of *request*; without any, the server keeps the image.

    Raises:
        UsageError: one that cannot be written. UserError: a directory that is no layout.
    """
    exports = Exports()
    check_places(request.outputs)
    for output in request.outputs or (Output(type="image"),):
        if output.type == "cacheonly":
            continue
        number = len(exports.exporters)
        attrs = dict(output.attrs)
        names: tuple[str, ...] = ()
        if output.type in _IMAGES:
            names = _names(request.tags, attrs.pop("name", ""))
            exports.image_names = names
            if names:
                attrs["name"] = join_csv(names)
        kind = output.type
        match output.type:
            case "registry":
                kind = "image"
                attrs["push"] = "true"
            case "local":
                exports.targets[number] = _directory(output.dest, output.replaces)
            case "docker" if not output.dest:
                raise UsageError(
                    "type=docker without a dest is an engine here, and the build is elsewhere",
                    hints=["--load brings the image to this machine and its engine"],
                )
            case "oci" | "docker" if not output.flag("tar", True):
                _plan_layout(exports, output, names)
            case "oci" | "docker" | "tar":
                from pybuild.client.files import archive_opener
                from pybuild.client.filesend import ToStream

                exports.targets[number] = ToStream(archive_opener(output.dest))
            case _:
                pass
        exports.exporters.append(pb.Exporter(Type=kind, Attrs=attrs))
    if request.on_fail_output:
        exports.leftovers = _directory(request.on_fail_output)
        exports.targets[len(exports.exporters)] = exports.leftovers
    return exports


def _directory(path: str, replaces: bool = False) -> ToDirectory:
    from pybuild.client.filesend import ToDirectory

    return ToDirectory(os.path.abspath(path), replaces)


def with_leftovers(exports: Exports, error: PybuildError, shown: str) -> PybuildError:
    """Return *error* with a hint about the files of the failed step that have come, if they were to."""
    if (
        exports.leftovers is None
        or not isinstance(error, StepError)
        or any("--on-fail-output" in hint for hint in error.hints)
    ):
        return error
    if exports.leftovers.arrived:
        return error.hinting(f"look into {shown}: files of the failed step")
    return error.hinting(f"nothing has come into {shown}: the build server sends no such files")


def _plan_layout(exports: Exports, output: Output, names: tuple[str, ...]) -> None:
    if exports.store is not None:
        raise UsageError("a server can write only one output with tar=false")
    from pybuild.client.content import BlobDirectory
    from pybuild.image.archive import LAYOUT

    path = os.path.abspath(output.dest)
    fd = make_output(path)
    try:
        names_there = os.listdir(fd)
        if names_there and "oci-layout" not in names_there:
            raise UserError(
                f"{output.dest} is not empty and not an OCI layout",
                hints=("choose an empty directory",),
            )
        if not names_there:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open("oci-layout", flags, 0o666, dir_fd=fd), "wb") as file:
                file.write(LAYOUT)
    finally:
        os.close(fd)
    exports.layout, exports.names = path, names
    exports.store = BlobDirectory(path, writable=True)


def _names(tags: Sequence[Reference], given: str) -> tuple[str, ...]:
    """Return the full names of an image, each once.

    Raises:
        UsageError: one that an image cannot have.
    """
    names = list(tags)
    for text in filter(None, given.split(",")):
        try:
            names.append(Reference.parse(text))
        except ValueError as error:
            raise UsageError(str(error)) from error
    for name in names:
        if name.digest is not None:
            raise UsageError(f'"{name}": an image cannot be named by a digest')
    return tuple(dict.fromkeys(str(name) for name in names))


def finish(exports: Exports, response: Mapping[str, str]) -> None:
    """Write the index of a layout whose blobs have come.

    Raises:
        EnvironmentFault: the server did not send what it says.
    """
    if exports.store is None:
        return
    made = descriptor_of(response)
    if made is None:
        raise EnvironmentFault("the server does not say what it wrote to the OCI layout")
    from pybuild.image.archive import write_oci_layout

    blobs = exports.store.blob
    write_oci_layout(exports.layout, blobs, made, exports.names, opened=make_output)


# --- what servers say of an image -----------------------------------------------------------------


def descriptor_of(response: Mapping[str, str]) -> Descriptor | None:
    """Return the image that was made, if one was.

    Raises:
        EnvironmentFault: what the server says of it cannot be read.
    """
    text = response.get("containerimage.descriptor")
    if not text:
        return None
    try:
        return Descriptor.from_json(json.loads(base64.b64decode(text)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EnvironmentFault(f"the server describes an image as {text[:80]!r}") from error


def image_id_of(response: Mapping[str, str], made: Descriptor | None) -> Digest | None:
    """Return the digest of the config, or that of an index [OUT-15]."""
    text = response.get("containerimage.config.digest") or (made.digest if made else "")
    try:
        return Digest.parse(text) if text else None
    except ValueError as error:
        raise EnvironmentFault(f"the server names an image {text[:80]!r}") from error


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def metadata_of(response: Mapping[str, str], image_id: Digest | None) -> dict[str, Any]:
    """Return the entries of ``--metadata-file``; values that are JSON become that [BLD-30]."""
    metadata: dict[str, Any] = {}
    for key, value in sorted(response.items()):
        metadata[key] = value
        if key == "containerimage.descriptor":
            made = descriptor_of(response)
            metadata[key] = made.to_json() if made else value
        elif key == "cache.manifest":
            metadata[key] = _json(value)
    if image_id is not None:
        metadata["containerimage.config.digest"] = str(image_id)
    return dict(sorted(metadata.items()))
