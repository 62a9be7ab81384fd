"""The table of mistakes: text files of cases, read and written.

A case is ``== name``, then its files (``name:`` with lines four spaces in, or ``name -> target`` for
a link), then ``$ command`` with the answer's first two lines, then ``= status, grade N``.

How a file is written may stand behind its name: ``run.sh: (755 crlf)``, ``Dockerfile: (utf-16)``.
A command may begin with ``offline``, ``in DIRECTORY:`` and ``NAME=value``.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

BOOKS = Path(__file__).parent
_INDENT = "    "
_FILE = re.compile(r"(\S+):(?: \((.*)\))?\Z")
_LINK = re.compile(r"(\S+) -> (\S+)\Z")
_END = re.compile(r"= (\d+), grade ([0-3])\Z")
_VARIABLE = re.compile(r"[A-Z_]+=")


@dataclass
class File:
    """A file of a case: its lines, and how they are written."""

    name: str
    how: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list[str])

    def write(self, context: Path, names: dict[str, str]) -> None:
        path = context / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        end = "\r\n" if "crlf" in self.how else "\n"
        text = filled("".join(line + end for line in self.lines), names)
        path.write_bytes(text.encode("utf-16" if "utf-16" in self.how else "utf-8"))
        for word in self.how:
            if word.isdigit():
                path.chmod(int(word, 8))


@dataclass(frozen=True)
class Case:
    """A mistake and its answer.

    Attributes:
        start: the lines of the book above the answer.
        status: the exit code; *grade* is what the answer is worth, 3: cause and way out, no noise.
    """

    name: str
    start: tuple[str, ...]
    files: tuple[File, ...]
    links: tuple[tuple[str, str], ...]
    command: str
    answer: tuple[str, ...]
    status: int
    grade: int

    @property
    def is_offline(self) -> bool:
        """Whether the command runs where no name of a host can be looked up."""
        return self.command.startswith("offline ")

    def request(self, context: Path, names: dict[str, str]) -> dict[str, object]:
        """Make the files; return the command line, its directory and its variables."""
        context.mkdir(parents=True)
        for file in self.files:
            file.write(context, names)
        for name, target in self.links:
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            (context / name).symlink_to(target)
        command, cwd = filled(self.command, names).removeprefix("offline "), context
        if command.startswith("in "):
            below, _, command = command[3:].partition(": ")
            cwd = context / below
        words, env = shlex.split(command), dict[str, str]()
        while words and _VARIABLE.match(words[0]):
            name, _, env[name] = words.pop(0).partition("=")
        return {"argv": words, "cwd": str(cwd), "env": env}

    def answered(self, answer: list[str], status: int) -> Case:
        return replace(self, answer=tuple(answer), status=status)


def filled(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(name, value)
    return text


def read(path: Path) -> list[Case]:
    """Return the cases of one book."""
    cases: list[Case] = []
    for part in re.split(r"^== ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        cases.append(_case(part.rstrip("\n").split("\n")))
    return cases


def _case(lines: list[str]) -> Case:
    files: list[File] = []
    links: list[tuple[str, str]] = []
    answer: list[str] = []
    command = ""
    start = 1
    for number, line in enumerate(lines[1:], 1):
        if line.startswith(_INDENT) or not line:
            text = line[len(_INDENT) :]
            if command:
                answer.append(text)
            else:
                files[-1].lines.append(text)
        elif line.startswith("$ "):
            command, start = line[2:], number + 1
        elif end := _END.match(line):
            return Case(
                name=lines[0],
                start=tuple(lines[1:start]),
                files=tuple(files),
                links=tuple(links),
                command=command,
                answer=tuple(answer),
                status=int(end[1]),
                grade=int(end[2]),
            )
        elif link := _LINK.match(line):
            links.append((link[1], link[2]))
        elif file := _FILE.match(line):
            files.append(File(file[1], tuple((file[2] or "").split())))
        else:
            raise ValueError(f"{lines[0]}: {line!r} is no part of a case")
    raise ValueError(f"{lines[0]}: without an end")


def write(path: Path, cases: list[Case]) -> None:
    """Write the cases back, with their answers."""
    head = path.read_text(encoding="utf-8").partition("\n== ")[0].rstrip("\n")
    parts = [head]
    for case in cases:
        answer = [f"{_INDENT}{line}".rstrip() for line in case.answer]
        end = f"= {case.status}, grade {case.grade}"
        parts.append("\n".join(("== " + case.name, *case.start, *answer, end)))
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
