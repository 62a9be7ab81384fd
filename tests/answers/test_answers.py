"""Mistakes of the first hour are answered with the cause, and under it the way out.

Each book (``*.txt``) is a part of the table. What is compared is the first two lines of the answer
and the exit code; ``--update-golden`` writes what is answered into the books, to be graded by hand.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from tests.answers.book import BOOKS, Case, read, write
from tests.answers.peers import configuration, peers
from tests.harness import Pybuild, make_base

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

_BOOKS = sorted(BOOKS.glob("*.txt"))
_WARNING = re.compile(r"warning: | - ")
_CHANGING = re.compile(r"(?<=sha256:)(?!0{64})[0-9a-f]{64}|(?<=checksum of ref )[0-9a-f]{19}\b")
_CONTEXT = "context"

Answer = Callable[[Case], tuple[list[str], int]]


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Generator[Answer]:
    """Runs a case; gives the first two lines of the answer, and the status."""
    where = tmp_path_factory.mktemp("answers")
    pybuild = Pybuild(where / "store")
    make_base(pybuild, where / "base", "base")
    with peers(where) as names:
        config = where / "pybuild.toml"
        config.write_text(configuration(where, names))
        environment = Pybuild(pybuild.store, config).environment
        pybuild("tag", "base", f"{names['REGISTRY']}/team/app:1")
        driver = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.answers.driver", str(where)],
            env={**environment, "HOME": str(where)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        numbers = iter(range(1000))
        assert driver.stdin is not None and driver.stdout is not None
        is_offline = json.loads(driver.stdout.readline())

        def ask(case: Case) -> tuple[list[str], int]:
            if case.is_offline and not is_offline:
                return list(case.answer), case.status  # needs root
            context = where / f"{next(numbers)}" / _CONTEXT
            known = names | {"CONTEXTNAME": _CONTEXT, "CONTEXT": str(context)}
            request = case.request(context, known)
            assert driver.stdin is not None and driver.stdout is not None
            driver.stdin.write(json.dumps(request) + "\n")
            driver.stdin.flush()
            done: dict[str, Any] = json.loads(driver.stdout.readline())
            shown = done["err"]
            for name, value in known.items():
                if name != "CONTEXTNAME":
                    shown = shown.replace(value, name)
            shown = _CHANGING.sub("…", shown.replace(str(where), "WHERE"))
            return _first_two(shown), done["status"]

        try:
            yield ask
        finally:
            driver.stdin.close()
            driver.wait(60)
            driver.stdout.close()


def _first_two(text: str) -> list[str]:
    """Return the first two lines of the error, or else the first two warnings."""
    lines = [line.rstrip() for line in text.rstrip("\n").split("\n")]
    for number, line in enumerate(lines):
        if line.startswith("error: "):
            return lines[number:][:2]
    return [line for line in lines if _WARNING.match(line)][:2]


@pytest.mark.parametrize("book", _BOOKS, ids=lambda path: path.stem)
def test_mistakes_are_answered(book: Path, answer: Answer, request: pytest.FixtureRequest) -> None:
    cases = read(book)
    answered = [case.answered(*answer(case)) for case in cases]
    if request.config.getoption("--update-golden"):
        write(book, answered)
    assert answered == cases


def test_most_answers_name_cause_and_way_out() -> None:
    """Of all mistakes at least 95 of 100 get grade 3; the share never falls."""
    grades = [case.grade for book in _BOOKS for case in read(book)]
    assert len(grades) >= 220
    assert grades.count(3) >= 216
    assert grades.count(3) >= 0.95 * len(grades)
    assert min(grades) >= 2


def test_names_are_given_once() -> None:
    for book in _BOOKS:
        names = [case.name for case in read(book)]
        assert len(names) == len(set(names)), book.stem
