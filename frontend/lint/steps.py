"""One instruction of a stage at a time [LNT-7, LNT-10..13, LNT-15, LNT-18, LNT-20, LNT-21]."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from posixpath import normpath

from pybuild.frontend.lint.options import Rule
from pybuild.frontend.lint.report import Report
from pybuild.frontend.lowering import paths
from pybuild.frontend.lowering.ports import PortSpec
from pybuild.frontend.syntax import ast
from pybuild.frontend.words.gotext import quote
from pybuild.model.errors import UserError
from pybuild.model.patterns import PatternMatcher
from pybuild.model.secrets import is_secret_name

JSON_ARGS_RECOMMENDED = Rule(
    name="JSONArgsRecommended",
    description="In shell form a shell stands between the program and the signals sent to it",
    message=(
        "JSON arguments recommended for {0} to prevent unintended behavior related to OS signals"
    ).format,
)
MULTIPLE_INSTRUCTIONS_DISALLOWED = Rule(
    name="MultipleInstructionsDisallowed",
    description="Only the last instruction of its kind in a stage has an effect",
    message=(
        "Multiple {0} instructions should not be used in the same stage because only the last one"
        " will be used"
    ).format,
)


def check_command_form(
    at: ast.Cmd | ast.Entrypoint, *, has_own_shell: bool, report: Report
) -> None:
    """Report the shell form, except where somebody chose a shell on purpose.

    Args:
        has_own_shell: a SHELL is in force, the stage's or inherited.
    """
    if at.command.is_shell and not has_own_shell:
        report.add(JSON_ARGS_RECOMMENDED, at.keyword, at=at)


def check_used_once(at: ast.Instruction, earlier: ast.Instruction | None, report: Report) -> None:
    """Report *earlier* if there is one: it has no effect. Comments above *at* decide on skipping."""
    if earlier is not None:
        spans = (earlier.span,)
        report.add(MULTIPLE_INSTRUCTIONS_DISALLOWED, at.keyword, at=at, spans=spans)


LEGACY_KEY_VALUE_FORMAT = Rule(
    name="LegacyKeyValueFormat",
    description="With a space in the place of the = all of the line is one value",
    message='"{0} key=value" should be used instead of legacy "{0} key value" format'.format,
)
SECRETS_USED_IN_ARG_OR_ENV = Rule(
    name="SecretsUsedInArgOrEnv",
    description="Values of ARG and ENV stay in the image's config and history for all to read",
    message='Do not use ARG or ENV instructions for sensitive data ({0} "{1}")'.format,
)


def check_format(at: ast.Env | ast.Label, report: Report) -> None:
    if at.legacy:
        report.add(LEGACY_KEY_VALUE_FORMAT, at.keyword, at=at)


def check_secret(at: ast.Env | ast.Arg, name: str, report: Report) -> None:
    """Look at the name of one variable, expanded."""
    if is_secret_name(name):
        keyword = "ENV" if isinstance(at, ast.Env) else "ARG"
        report.add(SECRETS_USED_IN_ARG_OR_ENV, keyword, name, at=at)


EXPOSE_PROTO_CASING = Rule(
    name="ExposeProtoCasing",
    description="Protocols are written in lower case",
    message="Defined protocol '{0}' in EXPOSE instruction should be lowercase".format,
)
EXPOSE_INVALID_FORMAT = Rule(
    name="ExposeInvalidFormat",
    description="An image cannot say which address or port of a host it will be published at",
    message=(
        "EXPOSE instruction should not define an IP address or host-port mapping, found '{0}'"
    ).format,
)


def check_port(at: ast.Expose, text: str, spec: PortSpec, report: Report) -> None:
    """Look at one port, as written and as read."""
    if spec.protocol != spec.protocol.lower():
        report.add(EXPOSE_PROTO_CASING, text, at=at)
    if spec.has_host_part:
        report.add(EXPOSE_INVALID_FORMAT, text, at=at)


UNDEFINED_VAR = Rule(
    name="UndefinedVar",
    description="A variable that is neither an ENV nor a declared ARG at this line expands to nothing",
    message="Usage of undefined variable '${0}'{1}".format,
)


def undefined_variable(
    at: ast.Instruction, name: str, known: Collection[str], report: Report
) -> None:
    """Report *name*; *known* are the variables with a value, one of which was perhaps meant."""
    near = report.guess(name, known)
    report.add(UNDEFINED_VAR, name, f" (did you mean ${near}?)" if near else "", at=at)


WORKDIR_RELATIVE_PATH = Rule(
    name="WorkdirRelativePath",
    description="A first WORKDIR that is relative depends on where the base image happens to be",
    message="Relative workdir {0} can have unexpected results if the base image changes".format,
)


def check_workdir(at: ast.Workdir, path: str, *, is_first: bool, report: Report) -> None:
    """Look at the first WORKDIR of a chain of stages; what follows builds upon it."""
    if is_first and not path.startswith("/"):
        report.add(WORKDIR_RELATIVE_PATH, quote(path), at=at)


COPY_IGNORED_FILE = Rule(
    name="CopyIgnoredFile",
    description="What the ignore file excludes is not in the build context",
    message='Attempting to {0} file "{1}" that is excluded by .dockerignore'.format,
)

_ALL = frozenset(("*", "**", "**/*"))


def check_ignored(
    at: ast.Copy | ast.Add, sources: Iterable[str], exclude: tuple[str, ...], report: Report
) -> None:
    """Report the sources, expanded and from the main context, that *exclude* covers.

    Nothing is said where an exception exists, since something below may well be there; the root
    counts only where a pattern takes all of it.

    Raises:
        UserError: the ignore file has a malformed pattern [IGN-7].
    """
    if not exclude or any(pattern.startswith("!") for pattern in exclude):
        return
    matcher = _matcher(exclude)
    verb = "Copy" if isinstance(at, ast.Copy) else "Add"
    for source in sources:
        path = paths.clean(source).lstrip("/")
        if matcher.matches(path) if path else not _ALL.isdisjoint(exclude):
            report.add(COPY_IGNORED_FILE, verb, normpath(source), at=at)


@lru_cache(maxsize=4)
def _matcher(exclude: tuple[str, ...]) -> PatternMatcher:
    try:
        return PatternMatcher(exclude)
    except ValueError as error:
        raise UserError(f".dockerignore: {error}") from error
