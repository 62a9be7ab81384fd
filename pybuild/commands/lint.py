"""``pybuild lint [--fix]``: checks without a build, a context or a registry, and mends."""

from __future__ import annotations

import sys

from pybuild.arguments.values import parse_pairs
from pybuild.builds.contexts import load_inputs
from pybuild.builds.linting import Linter, difference, escape_of, file_of, replace_file, request_of
from pybuild.builds.standardinput import StandardInput
from pybuild.commandline.parser import Parsed
from pybuild.engine.settings import load_settings
from pybuild.frontend import views
from pybuild.frontend.lint.mends import mend
from pybuild.frontend.syntax.physical import excerpts
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
    request = request_of(
        path, parse_pairs(parsed.many("build-arg"), "build-arg", from_environment=True)
    )
    inputs = load_inputs(request, StandardInput())
    linter = Linter(request, inputs, load_settings(parsed.one("config"), parsed.one("root")).root)
    text = inputs.dockerfile
    mended = mend(text, escape_of(text), linter.check)
    if parsed.flag("fix") and mended != text:
        replace_file(file_of(request, inputs), mended)
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
            sys.stdout.writelines(difference(inputs.filename, text, mended))
    if checked.error is not None and form == "text":
        from pybuild.progress.render import report

        sys.stdout.flush()
        report(checked.error.showing({inputs.filename: lines}), sys.stderr)
    return ExitCode.BUILD_FAILURE if warnings or checked.error else ExitCode.OK
