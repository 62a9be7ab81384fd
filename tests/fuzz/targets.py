"""The stages that one input goes through, and the outcomes that are allowed.

A target takes bytes and either returns or raises. The only allowed error is a `UserError`, which
blames the file: anything else is a fault of ours.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from pybuild.frontend import views
from pybuild.frontend.check import Checked, FileCheck
from pybuild.frontend.giturl import file_name, parse_git_url, without_credentials
from pybuild.frontend.ignore import parse_ignore
from pybuild.frontend.lint.mends import mend
from pybuild.frontend.lint.options import CheckOptions
from pybuild.frontend.lowering import mounts
from pybuild.frontend.lowering.interface import (
    ImageRequest,
    Lowered,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.lowering.lower import lower
from pybuild.frontend.outline import list_stages, outline
from pybuild.frontend.syntax.parse import parse_dockerfile, parse_instruction
from pybuild.frontend.syntax.physical import excerpts
from pybuild.frontend.words.expand import expand, expand_heredoc, expand_words
from pybuild.model import patterns
from pybuild.model.digest import Digest
from pybuild.model.errors import ExitCode, UserError
from pybuild.model.ops import walk
from pybuild.model.patterns import PatternMatcher
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.span import Span
from pybuild.progress.render import report

Target = Callable[[bytes], None]

_ARM = Platform.parse("linux/arm64", LINUX_AMD64)
_TRIGGERS = (
    (),
    ("RUN echo $X",),
    ("COPY --from=s1 a b", "WORKDIR w"),
    ("RUN --mount=from=s0,target=/x <<E\nx\nE", "ENV A=$A$A"),
    ("ONBUILD RUN x",),
    ("ARG X=\x00",),
)


def _options(**more: Any) -> LowerOptions:
    return LowerOptions(target_platform=LINUX_AMD64, build_platform=LINUX_AMD64, **more)


_OPTIONS = (
    _options(),
    _options(build_args={"X": "a b", "V": "", "HTTP_PROXY": "p"}, labels={"l": "$X"}),
    _options(build_args={"X": "$X'\"\\", "Y": "*/?\n"}, platform_explicit=True, no_cache=True),
    _options(named_contexts={"s1": "docker-image://x", "b": "."}, multi_platform=True),
    _options(local_excludes={"context": ("*", "!a")}, target="s1"),
    _options(local_excludes={"context": ("a", "**/b*")}, no_cache_filter=frozenset(("s0",))),
)


def dockerfile(data: bytes) -> None:
    """Check, lower, outline and mend a file, and show what is wrong with it."""
    choice = zlib.crc32(data)
    options = _OPTIONS[choice % len(_OPTIONS)]
    lines = excerpts(data)

    def check(text: bytes) -> Checked:
        images = _Images(choice)
        checking = FileCheck(text, "Dockerfile", options)
        while isinstance(found := checking.run(images.known), NeedImages):
            images.answer(found)
        return found

    checked = check(data)
    _require_text(views.check_text([item.warning() for item in checked.findings], lines))
    for finding in checked.findings:
        for span in finding.spans:
            assert 1 <= span.first_line <= span.last_line <= len(lines), f"{span} is not there"
    if choice % 7 == 0:
        mended = mend(data, _escape(data), check)
        again = check(mended)
        # What was a file stays one.
        assert checked.error is not None or again.error is None, "mended to death"
    if checked.error is not None:
        _show(checked.error, lines)
    try:
        file = parse_dockerfile(data)
    except UserError as error:
        _show(error, lines)
        assert checked.error is not None, "an error that checks do not know"
        raise
    images = _Images(choice)
    while isinstance(lowered := lower(file, options, images.known), NeedImages):
        images.answer(lowered)
    _inspect(lowered)
    if choice % 5 == 0:
        while isinstance(found := outline(file, options, images.known), NeedImages):
            images.answer(found)
        _require_text(views.outline_json(found, data))
        _require_text(views.targets_json(list_stages(file), data))


def base_image(data: bytes) -> None:
    """Build upon an image whose config is *data*: registries are not trusted either."""
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(value, dict):
        return
    config = cast("dict[str, Any]", value)
    file = parse_dockerfile(
        b"FROM a AS b\nRUN x $A\nWORKDIR w\nCOPY a $A\nENV B=$A\nUSER $A\nEXPOSE 1\nFROM b\nLABEL a=b\n"
    )
    known: dict[ImageRequest, ResolvedImage] = {}
    answer = lower(file, _OPTIONS[0], known)
    while isinstance(answer, NeedImages):
        for request in answer.requests:
            digest = Digest.of(str(request).encode())
            known[request] = ResolvedImage(digest, config, 1, request.platform)
        answer = lower(file, _OPTIONS[0], known)
    _inspect(answer)


def ignore_file(data: bytes) -> None:
    """Parse an ignore file and ask it about paths, its own lines among them."""
    lines = parse_ignore(data)
    matcher = PatternMatcher(lines)
    names = [line.strip("!*?[]\\/") for line in lines[:4]]
    for path in ("a", "a/b.md", "x/" * 40 + "y", "a" * 300, "é/\n/[a]", *names):
        covered = matcher.matches(path)
        assert covered or not matcher.can_skip_dir(path), "skips what is not covered"
    for line in lines[:4]:
        try:
            patterns.match(line, "a" * 50 + "b")
        except ValueError:
            pass


def words(data: bytes) -> None:
    """Expand a word in each of the ways in which instructions do."""
    text = data.decode("utf-8", "replace")
    env = {"a": "x*y/z", "b": "", "x": "a.b.c", "X": "a" * 200, "é": "$a"}
    unset: list[str] = []
    expand_heredoc(text, env, on_unset=unset.append)
    for escape in "\\`":
        plain = expand(text, env, escape=escape, on_unset=unset.append)
        expand(text, env, escape=escape, keep_quotes=True, keep_unset=True)
        split = expand_words(text, env, escape=escape, keep_quotes=True, keep_escapes=True)
        assert all(split)
        assert isinstance(plain, str)


def options(data: bytes) -> None:
    """Read the small languages inside the language; what one refuses the next still gets."""
    text = data.decode("utf-8", "replace")
    readers: tuple[Callable[[], object], ...] = (
        lambda: CheckOptions.parse(text),
        lambda: CheckOptions.of_comments([text]),
        lambda: parse_git_url(text),
        lambda: parse_git_url(text, is_context=True),
        lambda: (file_name(text), without_credentials(text)),
        lambda: mounts.parse_mount(text, lambda value: expand(value, {"T": "cache"})),
        lambda: parse_instruction(text, Span("x", 1, 1)),
        lambda: parse_instruction(text, Span("x", 1, 1), "`"),
    )
    for read in readers:
        try:
            read()
        except UserError as error:
            _require_text(error.message, *error.hints)


TARGETS: Mapping[str, Target] = {
    "dockerfile": dockerfile,
    "base_image": base_image,
    "ignore_file": ignore_file,
    "words": words,
    "options": options,
}


class _Images:
    """Makes up base images, some with triggers."""

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self.known: dict[ImageRequest, ResolvedImage] = {}

    def answer(self, needed: NeedImages) -> None:
        assert len(self.known) < 10_000, "asks without end"
        for request in needed.requests:
            assert request not in self.known, f"asks twice for {request}"
            choice = self._choice + len(self.known)
            if choice % 11 == 0:
                self.known[request] = ResolvedImage.unknown(request)
                continue
            platform = _ARM if choice % 9 == 0 else request.platform
            config = {
                "architecture": platform.arch,
                "os": platform.os,
                "config": {
                    "Env": ["PATH=/bin", "A=a", "V=$X"],
                    "WorkingDir": ("", "/w", "w")[choice % 3],
                    "OnBuild": list(_TRIGGERS[choice % len(_TRIGGERS)]),
                    "Cmd": ["x"],
                },
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{1:064x}"]},
                "history": [{"created_by": "x"}],
            }
            digest = Digest.of(str(request).encode())
            self.known[request] = ResolvedImage(digest, config, 1, platform)


def _inspect(lowered: Lowered) -> None:
    """Check that the result has digests, JSON and names that can be written: later stages need them."""
    for vertex in walk(lowered.result):
        assert vertex.digest
        _require_text(vertex.meta.name)
    _require_text(json.dumps(lowered.config, ensure_ascii=False))
    _require_text(*(item.created_by for item in lowered.history))
    _require_text(*(warning.message for warning in lowered.warnings))


def _show(error: UserError, lines: Sequence[str]) -> None:
    """Print an error as the command line does."""
    error = error.showing({"Dockerfile": lines})
    for span in error.spans:
        assert 1 <= span.first_line <= span.last_line <= max(1, len(lines)), f"{span} is not there"
    out = io.StringIO()
    assert report(error, out) == ExitCode.BUILD_FAILURE
    _require_text(out.getvalue())


def _require_text(*texts: str) -> None:
    for text in texts:
        text.encode()


def _escape(data: bytes) -> str:
    return "`" if re.match(rb"#\s*escape\s*=\s*`", data, re.IGNORECASE) else "\\"
