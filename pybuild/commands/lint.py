"""``pybuild lint [--fix]``: checks without a build, a context or a registry, and mends."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable

from pybuild.arguments.values import parse_pairs
from pybuild.builds.contextfiles import real_path
from pybuild.builds.contexts import BuildInputs, load_inputs
from pybuild.builds.definition import lower_options
from pybuild.builds.request import BuildRequest
from pybuild.builds.standardinput import StandardInput
from pybuild.commandline.parser import Parsed
from pybuild.engine.host import native_platform
from pybuild.engine.knownimages import KnownImages
from pybuild.engine.settings import load_settings
from pybuild.frontend import views
from pybuild.frontend.check import Checked, FileCheck
from pybuild.frontend.lint.mends import mend
from pybuild.frontend.lowering.interface import ImageRequest, NeedImages, ResolvedImage
from pybuild.frontend.syntax.directives import parse_directives
from pybuild.frontend.syntax.lines import SyntaxFault
from pybuild.frontend.syntax.physical import excerpts, split_lines
from pybuild.model.errors import ExitCode, UsageError


def main(parsed: Parsed) -> int:
    """Show the findings and their mends, or make them; fails while there is something left."""
    if rule := parsed.one("explain"):
        from pybuild.frontend.lint.rulepages import page

        sys.stdout.write(page(rule))
        return ExitCode.OK
    form = parsed.one("format", "text")
    if form not in ("text", "json"):
        raise UsageError(f'invalid format "{form}": text or json')
    path = parsed.positionals[0] if parsed.positionals else "."
    if path == "-" and parsed.flag("fix"):
        raise UsageError("standard input cannot be mended in its place", hints=["leave out --fix"])
    request = _request(
        path, parse_pairs(parsed.many("build-arg"), "build-arg", from_environment=True)
    )
    inputs = load_inputs(request, StandardInput())
    linter = _Linter(request, inputs, load_settings(parsed.one("config"), parsed.one("root")).root)
    text = inputs.dockerfile
    mended = mend(text, _escape(text), linter.check)
    if parsed.flag("fix") and mended != text:
        _write(_file(request, inputs), mended)
        text = mended
    checked = linter.check(text)
    warnings = [finding.warning() for finding in checked.findings]
    lines = excerpts(text)
    if form == "json":
        sys.stdout.write(views.check_json(warnings, checked.error, inputs.filename, text))
    else:
        sys.stdout.write(views.check_text([*warnings, *checked.advice], lines))
        if mended != text:
            sys.stdout.write("\nMended by --fix:\n\n")
            sys.stdout.writelines(_diff(inputs.filename, text, mended))
    if checked.error is not None and form == "text":
        from pybuild.progress.render import report

        sys.stdout.flush()
        report(checked.error.showing({inputs.filename: lines}), sys.stderr)
    return ExitCode.BUILD_FAILURE if warnings or checked.error else ExitCode.OK


def _request(path: str, build_args: dict[str, str]) -> BuildRequest:
    """PATH is a directory with a Dockerfile, or a Dockerfile."""
    if os.path.isdir(path):
        return BuildRequest(context=path, build_args=build_args)
    return BuildRequest(
        context=os.path.dirname(path) or ".", dockerfile=path, build_args=build_args
    )


class _Linter:
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


def _escape(text: bytes) -> str:
    try:
        return parse_directives(split_lines(text))[0].escape
    except SyntaxFault:
        return "\\"  # there are no findings above such an error


def _file(request: BuildRequest, inputs: BuildInputs) -> str:
    path = request.dockerfile or os.path.join(request.context, inputs.filename)
    return real_path(path, request.context)


def _write(path: str, data: bytes) -> None:
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


def _diff(name: str, before: bytes, after: bytes) -> Iterable[str]:
    from difflib import unified_diff

    def shown(data: bytes) -> list[str]:
        text = data.decode("utf-8", "replace").replace("\r\n", "\n")
        return [line + "\n" for line in text.removesuffix("\n").split("\n")]

    return unified_diff(shown(before), shown(after), name, name)
