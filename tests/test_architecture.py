"""The architecture page is about the code that is there."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.harness import ROOT
from tests.test_packaging import ROOMS

PAGE = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_its_rooms_are_the_folders() -> None:
    rows = re.findall(r"^\| `(\w+)/` \|", PAGE, flags=re.MULTILINE)
    assert sorted(rows) == sorted(["pybuild", *ROOMS])


def test_the_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_]+)+\.py)\b", PAGE))
    assert len(named) > 40
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


HANDED_OVER = frozenset(
    (
        "pybuild/commands/build.py",  # by the table of commands
        "frontend/lowering/lower.py",  # by `builds/`, which holds the parsed file
        "solver/drive.py",  # by the engine
        "solver/keys.py",  # by the state machine
        "executor/runner.py",  # as the solver's runner
        "engine/solve.py",  # by a scope
        "exporter/layermaker.py",  # by the engine's layers
        "registry/client/upload.py",  # by the client of a registry
        "cache/content/images.py",  # by the store
        "executor/zygote/loop.py",  # in another process
        "executor/zygote/mounts.py",  # by the sandbox
        "executor/zygote/privileges.py",  # by the sandbox
    )
)
"""Files of the journeys that no file before them in their list imports: they get there as a value."""


def test_its_journeys_enter_each_file_once_and_by_an_import() -> None:
    part = PAGE[PAGE.index("## Six journeys") : PAGE.index("## A setting of every RUN")]
    journeys = [
        re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_]+)+\.py)`", text)
        for text in re.split("^- ", part, flags=re.MULTILINE)[1:]
    ]
    assert len(journeys) == 6
    jumps: set[str] = set()
    for files in journeys:
        assert len(files) > 6
        assert len(files) == len(set(files))
        for number, file in enumerate(files[1:], 1):
            before = [(ROOT / one).read_text(encoding="utf-8") for one in files[:number]]
            if not any(_imports(text, file) for text in before):
                jumps.add(file)
    assert jumps == HANDED_OVER


def _imports(text: str, file: str) -> bool:
    room, _, name = (
        ("pybuild." + file.removeprefix("pybuild/").removesuffix(".py"))
        .replace("/", ".")
        .rpartition(".")
    )
    whole = re.escape(f"{room}.{name}")
    return bool(re.search(rf"\b{whole}\b|from {re.escape(room)} import .*\b{name}\b", text))


@pytest.mark.slow
def test_its_picture_of_the_rooms_is_drawn_from_the_imports() -> None:
    drawn = subprocess.run(
        [sys.executable, ROOT / "scripts/pictures", "--print", "rooms"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout
    assert drawn in PAGE, "run scripts/pictures"


def test_the_calls_and_rooms_of_its_other_pictures_are_there() -> None:
    calls = re.findall(r"^    (\w+)->>(\w+): (\w+)\.[\w.<>]+$", PAGE, flags=re.MULTILINE)
    assert len(calls) > 20
    for caller, callee, module in calls:
        assert (ROOT / caller).is_dir()
        assert list((ROOT / callee).rglob(f"{module}.py"))
