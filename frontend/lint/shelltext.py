"""The variables that a shell command expands and does not set itself, as far as its text shows.

For advice about misspelt names, so whatever is unclear counts as set: a false alarm is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from pybuild.frontend.lint.report import Report
from pybuild.frontend.syntax import ast
from pybuild.frontend.words.environment import EPOCH
from pybuild.model.advice import EXEC_FORM_QUOTES, UNSET_IN_RUN

_SHELLS = frozenset(("sh", "bash", "ash", "dash", "ksh", "zsh"))
# What may set any name: another file's text, or text made at run time.
_OPAQUE = re.compile(
    r"(?:^|[\s;&|(`{!])(?:\.|source|eval|trap|set\s+-\S*a\S*|set\s+-o\s+allexport)\s"
)
_SETTERS = re.compile(
    r"(?:^|[\s;&|(`{!])(?:export|readonly|local|declare|typeset|unset|read|readarray|mapfile|for"
    r"|select|getopts|printf\s+-v|let)\s+([^;&|\n]*)"
)
_ASSIGNED = re.compile(r"(?<![\w$])([A-Za-z_]\w*)(?:\[[^\]\s]*\])?\+?=")
_ARITHMETIC = re.compile(r"\(\(.*?\)\)", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")
_TOKEN = re.compile(
    r"""\\.                             # an escaped character
    | \$\$                              # the shell's own number
    | \$'(?:\\.|[^'\\])*'
    | (?P<single>'[^']*')
    | (?P<double>")
    | (?P<comment>(?:(?<=\s)|^)\#[^\n]*)
    | \$\{(?P<braced>[A-Za-z_]\w*)(?P<more>[^}]?)
    | \$(?P<plain>[A-Za-z_]\w*)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
# The shell sets these, or a login does; nobody who reads one has misspelt another.
_SHELL_OWN = frozenset(
    [
        "BASH",
        "BASHPID",
        "BASH_SOURCE",
        "BASH_VERSION",
        "CDPATH",
        "COLUMNS",
        "DIRSTACK",
        "ENV",
        "EUID",
        "FUNCNAME",
        "GROUPS",
        "HISTFILE",
        "HOME",
        "HOSTNAME",
        "HOSTTYPE",
        "IFS",
        "LANG",
        "LANGUAGE",
        "LC_ALL",
        "LINENO",
        "LINES",
        "LOGNAME",
        "MACHTYPE",
        "MAIL",
        "OLDPWD",
        "OPTARG",
        "OPTERR",
        "OPTIND",
        "OSTYPE",
        "PATH",
        "PIPESTATUS",
        "PPID",
        "PS1",
        "PS2",
        "PS3",
        "PS4",
        "PWD",
        "RANDOM",
        "REPLY",
        "SECONDS",
        "SHELL",
        "SHELLOPTS",
        "SHLVL",
        "SSH_AUTH_SOCK",
        "TERM",
        "TMPDIR",
        "TZ",
        "UID",
        "USER",
    ]
)
_SHORT = 3  # two edits make any such name of any other


def unset_variables(text: str) -> list[str]:
    """Return the names, in order, that *text* expands and nothing in it sets."""
    if _OPAQUE.search(text):
        return []
    set_here = set(_ASSIGNED.findall(text))
    for words in (*_SETTERS.findall(text), *_ARITHMETIC.findall(text)):
        set_here.update(_WORD.findall(words))
    names: dict[str, None] = {}
    inside, at = False, 0  # double quotes, where single ones are nothing special
    while token := _TOKEN.search(text, at):
        at = token.end()
        if token["single"] and inside:
            at = token.start() + 1
        elif token["double"]:
            inside = not inside
        elif token["comment"] and inside:
            at = token.start() + 1
        else:
            is_plain = token["more"] in (None, "", "%", "#")  # and not ${NAME:-other}
            name = token["plain"] or token["braced"]
            if name and is_plain and name not in set_here and name not in _SHELL_OWN:
                names[name] = None
    return list(names)


def advise_on_run(
    at: ast.Run,
    argv: Sequence[str],
    known: Collection[str],
    outer: Collection[str],
    report: Report,
) -> None:
    """Report variables of a RUN that have no value in its stage and are nearly or elsewhere declared.

    Args:
        argv: the arguments of the step; a shell and its text, or nothing is said.
        known: the names that the stage declares, or which have a value in it.
        outer: those of FROM lines.
    """
    if len(argv) < 3 or argv[0].rpartition("/")[2] not in _SHELLS or "$" not in argv[-1]:
        return
    text = argv[-1]
    if "<<" in text:  # the bodies of its here-documents are data of whatever reads them
        text = " ".join(at.command.args)
    for name in unset_variables(text):
        if name in known or name.upper().endswith("_PROXY"):
            continue
        if name in outer and name != EPOCH:
            report.advise(UNSET_IN_RUN, name, f'repeat "ARG {name}" behind FROM', at=at)
        elif len(name) > _SHORT and (near := report.guess(name, known)) not in _SHELL_OWN | {None}:
            report.advise(UNSET_IN_RUN, name, f"did you mean ${near}?", at=at)


_QUOTES = str.maketrans(dict.fromkeys("'\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb", '"'))
_MOST_CHARS = 1000
_LIST = re.compile(r'\[\s*"[^"]*"\s*(?:,\s*"[^"]*"\s*)*\]\Z')


def advise_on_command(at: ast.Cmd | ast.Entrypoint, text: str, report: Report) -> None:
    """Report an exec form that other quotes make *text* for a shell."""
    if len(text) > _MOST_CHARS:
        return
    straight = text.translate(_QUOTES)
    if straight != text and _LIST.match(straight):
        report.advise(EXEC_FORM_QUOTES, text, straight, at=at)
