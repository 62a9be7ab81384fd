"""The guide for those who come from docker, buildx, podman or buildah says what is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pybuild.cli import main
from pybuild.commandline import find_words
from pybuild.commandline.parser import HOST, parse

GUIDE = Path(__file__).parents[2] / "docs/guides/habits.md"
ROW = re.compile(r"\| `(.+?)` \| (.+?) \| ?(.*?) ?\|")


def rows(*, refused: bool) -> list[tuple[str, str, str]]:
    taken, _, others = GUIDE.read_text(encoding="utf-8").partition("\n## Refused\n")
    part = others if refused else taken
    found = [ROW.fullmatch(line) for line in part.splitlines() if line.startswith("| `")]
    assert len(found) >= 15 and all(found)
    return [(row[1], row[2], row[3]) for row in found if row is not None]


@pytest.mark.parametrize("line", [here.strip("`") for _, here, _ in rows(refused=False)])
def test_a_command_of_the_guide_is_read(line: str) -> None:
    program, *words = shlex.split(line)
    assert program == "pybuild"
    command, rest = find_words(words)
    assert command is not None and command.target
    _, least, most = command.arguments
    parsed = parse(rest, (*command.options, HOST))
    count = len(parsed.positionals)
    assert least <= count and (most < 0 or count <= most)


@pytest.mark.parametrize(("there", "answer", "hint"), rows(refused=True))
def test_a_refusal_of_the_guide_is_as_it_stands_there(
    there: str, answer: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, *words = shlex.split(there)
    assert main(words) == 2
    assert capsys.readouterr().err == f"error: {answer}\nhint: {hint}\n"
