"""Checks of a Dockerfile without a build, a context or a registry, and their mends."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable

from pybuild.builds.contextfiles import real_path
from pybuild.builds.contexts import BuildInputs
from pybuild.builds.definition import lower_options
from pybuild.builds.request import BuildRequest
from pybuild.engine.host import native_platform
from pybuild.engine.knownimages import KnownImages
from pybuild.frontend.check import Checked, FileCheck
from pybuild.frontend.lowering.interface import ImageRequest, NeedImages, ResolvedImage
from pybuild.frontend.syntax.directives import parse_directives
from pybuild.frontend.syntax.lines import SyntaxFault
from pybuild.frontend.syntax.physical import split_lines


class Linter:
    """Checks the Dockerfile of *request*, with the images that the store at *root* knows."""

    def __init__(self, request: BuildRequest, inputs: BuildInputs, root: str) -> None:
        here = native_platform()
        self._options = lower_options(request, inputs, here, here)
        self._filename = inputs.filename
        self._images = KnownImages(root)

    def check(self, text: bytes) -> Checked:
        """Make the findings; images that are not at hand are taken as unknown."""
        check = FileCheck(text, self._filename, self._options)
        known: dict[ImageRequest, ResolvedImage] = {}
        while isinstance(checked := check.run(known), NeedImages):
            for request in checked.requests:
                known[request] = self._images.find(request) or ResolvedImage.unknown(request)
        return checked


def escape_of(text: bytes) -> str:
    """Return the escape character of a Dockerfile."""
    try:
        return parse_directives(split_lines(text))[0].escape
    except SyntaxFault:
        return "\\"  # there are no findings above such an error


def replace_file(path: str, data: bytes) -> None:
    """Put *data* in the file's place at once, mode kept: it is never half of either."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".pybuild-lint-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            status = os.stat(path)
            os.fchmod(file.fileno(), status.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def difference(name: str, before: bytes, after: bytes) -> Iterable[str]:
    """Yield the lines of a unified diff."""
    from difflib import unified_diff

    def shown(data: bytes) -> list[str]:
        text = data.decode("utf-8", "replace").replace("\r\n", "\n")
        return [line + "\n" for line in text.removesuffix("\n").split("\n")]

    return unified_diff(shown(before), shown(after), name, name)


def request_of(path: str, build_args: dict[str, str]) -> BuildRequest:
    """PATH is a directory with a Dockerfile, or a Dockerfile."""
    if os.path.isdir(path):
        return BuildRequest(context=path, build_args=build_args)
    return BuildRequest(
        context=os.path.dirname(path) or ".", dockerfile=path, build_args=build_args
    )


def file_of(request: BuildRequest, inputs: BuildInputs) -> str:
    path = request.dockerfile or os.path.join(request.context, inputs.filename)
    return real_path(path, request.context)
