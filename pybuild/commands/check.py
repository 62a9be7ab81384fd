"""``pybuild build --check``, ``--call=…`` and ``pybuild lint``: answers without a build.

The engine, its event loop and its HTTP client are imported only when a registry must be asked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

from pybuild.arguments.ssh import parse_agents
from pybuild.arguments.values import parse_contexts, parse_pairs, parse_secret
from pybuild.builds.contextkinds import is_at_hand
from pybuild.builds.contexts import BuildInputs, load_inputs
from pybuild.builds.definition import lower_options
from pybuild.builds.request import BuildRequest
from pybuild.builds.standardinput import StandardInput
from pybuild.commandline.parser import Parsed
from pybuild.engine.host import native_platform, platforms_from
from pybuild.frontend import views
from pybuild.frontend.check import Check, Checked
from pybuild.frontend.lowering.interface import (
    ImageRequest,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.frontend.syntax.physical import Excerpts, excerpts
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import ExitCode, PybuildError, UsageError, UserError

T = TypeVar("T")
_Known = Mapping[ImageRequest, ResolvedImage]

METHODS = ("build", "check", "outline", "targets")


@dataclass(frozen=True, slots=True)
class Call:
    """``--call=method[,format=json|text][,ignorestatus]``."""

    method: str
    json: bool = False
    ignore_status: bool = False


def parse_call(parsed: Parsed) -> Call:
    """Read ``--call`` and ``--check``.

    Raises:
        UsageError: no such method or option, or two methods at once.
    """
    text = parsed.one("call")
    method, *fields = text.split(",")
    if parsed.flag("check"):
        if method not in ("", "check"):
            raise UsageError(f"--check is --call=check, and cannot go with --call={method}")
        method = "check"
    method = method or "build"
    if method not in METHODS:
        raise UsageError(f'invalid call "{method}": one of {", ".join(METHODS)}')
    json = ignore_status = False
    for field in fields:
        match field.split("="):
            case ["format", "json" | "text" as name]:
                json = name == "json"
            case ["ignorestatus"]:
                ignore_status = True
            case ["ignorestatus", "true" | "false" | "1" | "0" as value]:
                ignore_status = value in ("true", "1")
            case _:
                raise UsageError(
                    f'invalid call option "{field}": one of format=json, format=text, ignorestatus'
                )
    return Call(method, json, ignore_status)


def main(parsed: Parsed) -> int:
    """Answer the question that ``--call`` asks about a file."""
    call = parse_call(parsed)
    if call.method == "build":
        from pybuild.commands.build import main as build

        return build(parsed)
    request = request_of(parsed)
    inputs = _load(parsed, request)
    answer = {"check": _check, "outline": _outline, "targets": _targets}[call.method]
    try:
        return answer(call, request, inputs, _Images(parsed, request))
    except PybuildError as error:
        raise error.showing({inputs.filename: _lines(inputs)}) from error.__cause__


def request_of(parsed: Parsed) -> BuildRequest:
    """Read as much of a command line as a question about a file needs.

    Raises:
        UsageError: the first value that is wrong.
    """
    return BuildRequest(
        context=parsed.positionals[0],
        dockerfile=parsed.one("file"),
        target=parsed.one("target"),
        build_args=parse_pairs(parsed.many("build-arg"), "build-arg", from_environment=True),
        named_contexts=parse_contexts(parsed.many("build-context")),
        platforms=platforms_from(parsed.one("platform")),
        pull=parsed.flag("pull"),
        secrets={secret.id: secret for secret in map(parse_secret, parsed.many("secret"))},
        ssh=parse_agents(parsed.many("ssh")),
    )


def _load(parsed: Parsed, request: BuildRequest) -> BuildInputs:
    stdin = StandardInput()
    if is_at_hand(request, stdin):
        return load_inputs(request, stdin)
    from pybuild.builds.checkinputs import load_remote
    from pybuild.engine.settings import load_settings

    settings = load_settings(parsed.one("config"), parsed.one("root"))
    return load_remote(request, stdin, settings)


def _check(call: Call, request: BuildRequest, inputs: BuildInputs, images: _Images) -> int:
    check = Check(inputs.dockerfile, inputs.filename, _options(request, inputs))
    checked = images.answer(check.run)
    error = checked.error or images.error_of(checked)
    warnings = [finding.warning() for finding in checked.findings]
    if call.json:
        sys.stdout.write(views.check_json(warnings, error, inputs.filename, inputs.dockerfile))
    else:
        sys.stdout.write(views.check_text(warnings, _lines(inputs)))
        if error is not None:
            from pybuild.progress.render import report

            sys.stdout.flush()
            report(error.showing({inputs.filename: _lines(inputs)}), sys.stderr)
    is_bad = bool(warnings) or error is not None
    return ExitCode.BUILD_FAILURE if is_bad and not call.ignore_status else ExitCode.OK


def _outline(call: Call, request: BuildRequest, inputs: BuildInputs, images: _Images) -> int:
    from pybuild.frontend.outline import outline

    dockerfile = parse_dockerfile(inputs.dockerfile, inputs.filename)
    options = _options(request, inputs)
    found = images.answer(lambda known: outline(dockerfile, options, known))
    if call.json:
        sys.stdout.write(views.outline_json(found, inputs.dockerfile))
    else:
        sys.stdout.write(views.outline_text(found))
    return ExitCode.OK


def _targets(call: Call, request: BuildRequest, inputs: BuildInputs, images: _Images) -> int:
    from pybuild.frontend.outline import list_stages

    stages = list_stages(parse_dockerfile(inputs.dockerfile, inputs.filename))
    if call.json:
        sys.stdout.write(views.targets_json(stages, inputs.dockerfile))
    else:
        sys.stdout.write(views.targets_text(stages))
    return ExitCode.OK


def _options(request: BuildRequest, inputs: BuildInputs) -> LowerOptions:
    here = native_platform()
    return lower_options(request, inputs, (*request.platforms, here)[0], here)


def _lines(inputs: BuildInputs) -> Excerpts:
    return excerpts(inputs.dockerfile)


class _Images:
    """Answers the frontend's questions about base images: from the store, else from registries.

    One that cannot be had does not stop a check; it is an error of the answer.
    """

    def __init__(self, parsed: Parsed, request: BuildRequest) -> None:
        self._parsed = parsed
        self._pull = request.pull
        self._errors: dict[ImageRequest, UserError] = {}

    def answer(self, question: Callable[[_Known], T | NeedImages]) -> T:
        """Ask *question* again until it has an answer."""
        known: dict[ImageRequest, ResolvedImage] = {}
        while isinstance(found := question(known), NeedImages):
            known |= self._resolve(found)
        return found

    def error_of(self, checked: Checked) -> UserError | None:
        """The first image, by line, that is needed and cannot be had."""
        for request, span in sorted(checked.unknown.items(), key=lambda item: item[1].first_line):
            return self._errors[request].copy_with(spans=(span,))
        return None

    def _resolve(self, need: NeedImages) -> _Known:
        from pybuild.engine.knownimages import KnownImages
        from pybuild.engine.settings import load_settings

        settings = load_settings(self._parsed.one("config"), self._parsed.one("root"))
        known: dict[ImageRequest, ResolvedImage] = {}
        if not self._pull:
            store = KnownImages(settings.root)
            for request in need.requests:
                image = store.find(request)
                if image is not None:
                    known[request] = image
        missing = [request for request in need.requests if request not in known]
        if missing:
            from pybuild.builds.checkinputs import resolve_all

            for request, found in resolve_all(missing, settings, pull=self._pull).items():
                if isinstance(found, ResolvedImage):
                    known[request] = found
                else:
                    name = request.reference.familiar
                    hints = need.hints(request)
                    self._errors[request] = UserError(f"{name}: {found.message}", hints=hints)
                    known[request] = ResolvedImage.unknown(request)
        return known
