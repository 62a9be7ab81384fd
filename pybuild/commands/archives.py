"""``pybuild save``, ``load``, ``export`` and ``import``: images as files and back [RUN-24, STO-4]."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pybuild.arguments.environment import platforms_of
from pybuild.commandline.parser import Parsed
from pybuild.commands.localstore import open_store
from pybuild.exporter.heldimages import from_source
from pybuild.model.errors import UsageError, UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference, parse_reference

if TYPE_CHECKING:
    from pybuild.builds.request import BuildRequest

_EXPORTING = "pybuild-export-"


def save(parsed: Parsed) -> int:
    """Write images of the store to an archive, for ``docker load`` unless told otherwise."""
    from pybuild.builds.archives import save_images

    kind = parsed.one("format", "docker")
    if kind not in ("docker", "oci"):
        raise UsageError(f'archive format "{kind}": one of docker, oci')
    platform = _platform(parsed)

    with open_store(parsed, to_read=True) as store:
        save_images(
            store, parsed.positionals, parsed.one("output", "-"), platform, is_oci=kind == "oci"
        )
    return 0


def load(parsed: Parsed) -> int:
    """Take the images of an archive or OCI layout into the store, each with its names."""
    from pybuild.builds.archives import load_archive

    source = parsed.one("input", "-")
    if source != "-" and not os.path.exists(source):
        hint = "name an archive that pybuild save, docker save or skopeo wrote"
        raise UserError(f"open {source}: no such file or directory", hints=[hint])
    with open_store(parsed) as store:
        sys.stdout.writelines(f"{line}\n" for line in load_archive(store, source))
    return 0


def export(parsed: Parsed) -> int:
    """Write the file tree of an image as a tar, as a build of ``FROM image`` gives it."""
    from pybuild.builds.request import BuildRequest
    from pybuild.exporter.output import Output

    with open_store(parsed) as store, tempfile.TemporaryDirectory(prefix=_EXPORTING) as context:
        image, contexts = from_source(store, parsed.positionals[0])
        request = BuildRequest(
            context=context,
            dockerfile_text=f"FROM {image}\n".encode(),
            named_contexts=contexts,
            platforms=platforms_of(parsed),
            outputs=(Output(type="tar", dest=parsed.one("output", "-")),),
        )
        _build(parsed, request)
    return 0


def build_changed(
    parsed: Parsed, image_id: str, changes: Sequence[str], reference: Reference | None
) -> str:
    """Make an image of another one with lines of a Dockerfile; return its ID."""
    from pybuild.builds.request import BuildRequest

    parsed.values["progress"] = ["quiet"]
    with open_store(parsed) as store, tempfile.TemporaryDirectory(prefix=_EXPORTING) as context:
        image, contexts = from_source(store, image_id)
        lines = "".join(f"{line}\n" for line in (f"FROM {image}", *changes))
        request = BuildRequest(
            context=context,
            dockerfile_text=lines.encode(),
            named_contexts=contexts,
            tags=() if reference is None else (reference,),
        )
        return _build(parsed, request)


def import_(parsed: Parsed) -> int:
    """Make an image of one layer from a tar of a file tree."""
    from pybuild.builds.imageimport import import_image

    source, *names = parsed.positionals
    tags = [parse_reference(name) for name in names]
    build = partial(_build, parsed)
    platforms = platforms_of(parsed)
    image_id = import_image(source, parsed.many("change"), build, platforms=platforms, tags=tags)
    sys.stdout.write(f"{image_id}\n")
    return 0


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


def _platform(parsed: Parsed) -> Platform | None:
    platforms = platforms_of(parsed)
    if len(platforms) > 1:
        raise UsageError(f"{parsed.one('platform')}: one platform at a time")
    return platforms[0] if platforms else None
