"""Findings that can be mended without a decision, as edits of the lines concerned.

A mend never changes what is built, except for MAINTAINER, whose text moves into a label, and the
shell that a command no longer has around it. What is not certain is left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise

from pybuild.frontend.check import Checked
from pybuild.frontend.lint.report import Finding
from pybuild.frontend.lint.source import DockerfileLines, Edit, Words
from pybuild.frontend.lowering.stagestate import StageState
from pybuild.frontend.syntax import ast
from pybuild.frontend.syntax.parse import parse_instruction
from pybuild.frontend.words.expand import expand
from pybuild.frontend.words.gotext import SPACE
from pybuild.model.errors import UserError

# A mend may be what another waits for: FROM gets its casing, then AS follows.
_ROUNDS = 4

_AUTHORS = "org.opencontainers.image.authors"
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
# Words that only a shell knows, or that mean something else to it than the program of that name.
_SHELL_WORDS = frozenset(
    [
        "alias",
        "bg",
        "break",
        "builtin",
        "case",
        "cd",
        "command",
        "continue",
        "coproc",
        "declare",
        "disown",
        "do",
        "done",
        "elif",
        "else",
        "esac",
        "eval",
        "exec",
        "exit",
        "export",
        "fc",
        "fg",
        "fi",
        "for",
        "function",
        "getopts",
        "hash",
        "if",
        "in",
        "jobs",
        "let",
        "local",
        "popd",
        "pushd",
        "read",
        "readonly",
        "return",
        "select",
        "set",
        "shift",
        "shopt",
        "source",
        "then",
        "time",
        "times",
        "trap",
        "type",
        "typeset",
        "ulimit",
        "umask",
        "unalias",
        "unset",
        "until",
        "wait",
        "while",
        ".",
        ":",
        "[",
    ]
)


def mend(data: bytes, escape: str, check: Callable[[bytes], Checked]) -> bytes:
    """Return the file with all that can be mended.

    Args:
        check: finds what is wrong with a version of the file.
    """
    for _ in range(_ROUNDS):
        checked = check(data)
        mending = _Mending(DockerfileLines(data, escape), checked)
        groups = [edits for finding in checked.findings if (edits := mending.edits(finding))]
        if not groups:
            break
        data = mending.source.edited(groups)
    return data


class _Mending:
    """One round over a version of the file."""

    def __init__(self, source: DockerfileLines, checked: Checked) -> None:
        self.source = source
        self._states: dict[int, StageState] = {}  # by the CMD or ENTRYPOINT that counts there
        self._with_cmd: set[tuple[str, ...]] = set()  # ENTRYPOINTs, also inherited, that have a CMD
        for state in checked.states:
            self._states |= {id(at): state for at in (state.cmd_at, state.entrypoint_at) if at}
            if state.image.run.get("Cmd"):
                self._with_cmd.add(tuple(state.image.run.get("Entrypoint") or ()))

    def edits(self, finding: Finding) -> list[Edit]:
        """Return the edits that make *finding* go away; none where that takes a decision."""
        at = finding.at
        if self._words(at).text != at.original:
            return []  # a trigger, which does not stand where it takes effect
        match finding.rule.name, at:
            case "NoEmptyContinuation", _:
                return self._blank_lines(finding)
            case "ConsistentInstructionCasing", _:
                return self._keyword(at, is_lower=finding.values[1] == "lowercase")
            case "StageNameCasing", ast.From():
                return self._last_words(at, 1, at.name_as_written.lower())
            case "FromAsCasing", ast.From():
                is_lower = at.keyword == at.keyword.lower()
                expected = at.as_keyword.lower() if is_lower else at.as_keyword.upper()
                return self._last_words(at, 2, expected)
            case "RedundantTargetPlatform", ast.From():
                return self._platform(at)
            case "LegacyKeyValueFormat", (ast.Env() | ast.Label()):
                return self._key_value(at)
            case "MaintainerDeprecated", ast.Maintainer():
                return self._maintainer(at)
            case "JSONArgsRecommended", (ast.Cmd() | ast.Entrypoint()):
                return self._command(at)
            case "ExposeProtoCasing", ast.Expose():
                return self._ports(at)
            case _:
                return []

    def _blank_lines(self, finding: Finding) -> list[Edit]:
        edits: list[Edit] = []
        for number in range(finding.at.span.first_line, finding.spans[0].last_line + 1):
            line = self.source.line(number)
            if not line.strip(SPACE + "\n"):
                edits.append(Edit(number, 0, len(line), ""))
        return edits

    def _keyword(self, at: ast.Instruction, *, is_lower: bool) -> list[Edit]:
        expected = at.keyword.lower() if is_lower else at.keyword.upper()
        return self._words(at).replace(0, len(at.keyword), expected)

    def _last_words(self, at: ast.From, count: int, text: str) -> list[Edit]:
        """Replace one of the words of ``AS name``, counted from the end."""
        words = self._words(at)
        return words.replace(*words.spans()[-count], text)

    def _platform(self, at: ast.From) -> list[Edit]:
        words = self._words(at)
        spans = words.spans()
        for before, flag in pairwise(spans):
            text = words.text[slice(*flag)]
            if text in ("--platform=$TARGETPLATFORM", "--platform=${TARGETPLATFORM}"):
                return words.replace(before[1], flag[1], "")
            if not text.startswith("--"):
                break
        return []

    def _key_value(self, at: ast.Env | ast.Label) -> list[Edit]:
        """Put a ``=`` in the place of the space, and quotes around the value if it must be."""
        (pair,) = at.pairs
        words = self._words(at)
        value = len(words.text) - len(pair.value)
        key = value - len(words.text[:value]) + len(words.text[:value].rstrip(SPACE))
        for quote in ("", '"'):
            line = f"{words.text[:key]}={quote}{words.text[value:]}{quote}"
            if self._means(line, pair.value, at):
                opening = words.replace(key, value, "=" + quote)
                end = len(words.text)
                closing = words.replace(end, end, quote) if quote else []
                return opening + closing if opening and (closing or not quote) else []
        return []

    def _means(self, line: str, value: str, at: ast.Env | ast.Label) -> bool:
        """Return whether *line* gives the key of *at* the same value, variables or not."""
        escape = self.source.escape
        try:
            new = parse_instruction(line, at.span, escape)
            if not isinstance(new, (ast.Env, ast.Label)) or new.legacy or len(new.pairs) != 1:
                return False
            texts = [
                expand(text, {}, escape=escape, keep_unset=keep)
                for keep in (True, False)
                for text in (value, new.pairs[0].value)
            ]
            return new.pairs[0].key == at.pairs[0].key and texts[::2] == texts[1::2]
        except UserError:
            return False

    def _maintainer(self, at: ast.Maintainer) -> list[Edit]:
        words = self._words(at)
        escape = self.source.escape
        text = re.sub(f'["${re.escape(escape)}]', lambda match: escape + match[0], at.author)
        keyword = "label" if at.keyword == at.keyword.lower() else "LABEL"
        start = words.text.rindex(at.author)
        name = words.replace(0, len(at.keyword), keyword)
        value = words.replace(start, len(words.text), f'{_AUTHORS}="{text}"')
        return name + value if name and value else []

    def _command(self, at: ast.Cmd | ast.Entrypoint) -> list[Edit]:
        """Write out the argument vector, where no shell is needed to know it."""
        (text,) = at.command.args
        args = text.split()
        is_plain = bool(args) and all(map(_PLAIN.fullmatch, args))
        if not is_plain or args[0] in _SHELL_WORDS or "=" in args[0] or not self._is_alone(at):
            return []
        words = self._words(at)
        start = len(words.text) - len(text)
        if words.text[start:] != text:
            return []
        return words.replace(start, len(words.text), json.dumps(args))

    def _is_alone(self, at: ast.Cmd | ast.Entrypoint) -> bool:
        """Return whether no ENTRYPOINT would get CMD's words as its arguments from now on."""
        state = self._states.get(id(at))
        if state is None:
            return False  # another one comes later, or it was not reached
        entrypoint = tuple(state.image.run.get("Entrypoint") or ())
        if isinstance(at, ast.Cmd):
            return state.base_known and not entrypoint
        return entrypoint not in self._with_cmd

    def _ports(self, at: ast.Expose) -> list[Edit]:
        words = self._words(at)
        edits: list[Edit] = []
        for start, end in words.spans()[1:]:
            port, slash, protocol = words.text[start:end].partition("/")
            if slash and "$" not in protocol:
                lowered = protocol.lower()
                if lowered != protocol:
                    edits += words.replace(start + len(port) + 1, end, lowered)
        return edits

    def _words(self, at: ast.Instruction) -> Words:
        return self.source.words(at)
