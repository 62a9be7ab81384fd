"""A step hands another one an open file or directory while both run: its snapshot changes no more after it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.harness import Done, Pybuild, write
from tests.needs import need

PROGRAM = Path(__file__).with_name("latewrites.c")

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]


def _run(*words: str) -> str:
    return f"RUN --mount=type=cache,target=/c {list(words)}".replace("'", '"')


def _last() -> str:
    return f"FROM scratch AS last\nCOPY p /p\n{_run('/p', 'wait')}\nCOPY --from=first /file /file\n"


def _attack(*more: str) -> str:
    return (
        f"FROM scratch AS first\nCOPY p /p\n{_run('/p', 'give', *more)}\n"
        f"FROM scratch AS other\nCOPY p /p\n{_run('/p', 'take', *more)}\n"
        f"{_last()}COPY --from=other /p /q\n"
    )


@pytest.fixture
def context(tmp_path: Path) -> Path:
    need("gcc")
    folder = write(tmp_path / "context", file="original")
    command = ["gcc", "-static", "-o", str(folder / "p"), str(PROGRAM)]
    subprocess.run(command, check=True, timeout=60)
    return folder


@pytest.fixture(params=["", "crun", "runc"])
def pybuild(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Done]:
    if request.param:
        need(request.param)
    runtime = ["--runtime", request.param] if request.param else []
    return partial(Pybuild(tmp_path / "store"), "build", *runtime)


def test_a_step_whose_file_is_still_open_elsewhere_fails(
    pybuild: Callable[..., Done], context: Path
) -> None:
    write(context, Dockerfile=_attack())
    done = pybuild(context, code=1)
    assert "another step keeps a file of this one open for writing" in done.err


def test_a_directory_of_a_step_that_has_ended_takes_nothing(
    pybuild: Callable[..., Done], tmp_path: Path, context: Path
) -> None:
    """Results are kept by the content that a file had: another build would take them for its own."""
    write(context, Dockerfile=_attack("directory"))
    pybuild(context)
    victim = f"FROM scratch AS first\nCOPY --chmod=644 file /file\n{_last()}"
    write(context, Dockerfile=victim)
    pybuild("-o", f"type=local,dest={tmp_path}/out", context)
    assert (tmp_path / "out/file").read_text() == "original"
