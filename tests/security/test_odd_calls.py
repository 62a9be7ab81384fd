"""Builds whose system calls do what they may do and rarely do: parts of reads and writes, a clock that jumps."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import ROOT, Done, Pybuild, make_base, write
from tests.needs import need
from tests.security.movements import tree

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

DOCKERFILE = """FROM base
ADD a.tar /added
COPY --exclude=a.tar . /c
RUN --mount=type=cache,target=/cache cp -r /c /cache/ && cp -r /added /made && echo words
RUN --mount=type=bind,target=/ctx cat /ctx/big > /big
COPY --from=base /etc /etc2
"""
DAY = 86400


@dataclass(frozen=True)
class Odd(Pybuild):
    """Runs each command with the library of `oddcalls.c` loaded first."""

    library: Path = Path()

    def odd(self, *words: str | Path, **how: str) -> Done:
        # Python takes a part of a write for all of it: a module compiled here would stay cut short
        # for everybody.
        own = {"LD_PRELOAD": str(self.library), "PYTHONDONTWRITEBYTECODE": "1"}
        return self(*words, env={**own, **how})


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Odd:
    need("gcc")
    where = tmp_path_factory.mktemp("odd")
    library = where / "oddcalls.so"
    source = Path(__file__).with_name("oddcalls.c")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, timeout=60
    )
    # For the workers, which heed no PYTHONDONTWRITEBYTECODE.
    rooms = (ROOT / "pybuild", *filter(Path.is_dir, (ROOT / "pybuild").iterdir()))
    compiler = [sys.executable, "-I", "-m", "compileall", "-q"]
    subprocess.run([*compiler, *(room.resolve() for room in rooms)], check=True, timeout=120)
    made = Odd(where / "store", library=library)
    make_base(made, where / "base", "base")
    return made


@pytest.fixture
def context(tmp_path: Path) -> Path:
    made = write(tmp_path / "c", Dockerfile=DOCKERFILE, f="f", **{"d/g": "g"})
    (made / "big").write_bytes(bytes(range(256)) * 12_000)
    with tarfile.open(made / "a.tar", "w") as tar:
        member = tarfile.TarInfo("x/y")
        member.size = 100_000
        tar.addfile(member, io.BytesIO(bytes(range(250)) * 400))
    return made


@pytest.mark.parametrize("compression", ["gzip", "estargz"])
def test_parts_of_reads_and_writes_make_the_same_image(
    odd: Odd, context: Path, tmp_path: Path, compression: str
) -> None:
    layouts: list[bytes] = []
    for reads in ({}, {"ODD_READS": "1"}):
        out = tmp_path / f"{len(layouts)}.tar"
        told = f"type=oci,dest={out},rewrite-timestamp=true,force-compression=true"
        words = ("build", "--no-cache", "-o", f"{told},compression={compression}", context)
        odd.odd(*words, SOURCE_DATE_EPOCH="1000000000", **reads)
        layouts.append(out.read_bytes())
    assert layouts[0] == layouts[1]


def test_parts_of_reads_bring_an_image_in_and_out(odd: Odd, context: Path, tmp_path: Path) -> None:
    saved, out = tmp_path / "saved.tar", tmp_path / "out"
    odd.odd("build", "-q", "-t", "app:1", context, ODD_READS="1")
    odd.odd("save", "app:1", "-o", saved, ODD_READS="1")
    odd.odd("rmi", "app:1", ODD_READS="1")
    odd.odd("load", "-i", saved, ODD_READS="1")
    again = write(tmp_path / "again", Dockerfile="FROM app:1\n")
    odd.odd("build", "-o", out, again, ODD_READS="1")
    assert (out / "c/big").read_bytes() == (context / "big").read_bytes()
    assert (out / "big").read_bytes() == (context / "big").read_bytes()


@pytest.mark.parametrize("days", [1, -4000])
def test_a_clock_that_is_set_between_two_builds_hides_no_change(
    odd: Odd, context: Path, tmp_path: Path, days: int
) -> None:
    """Files of the future or the past, a store, memos and leases too: what was changed is seen."""
    for number, when in enumerate((0, days, 0)):
        (context / "f").write_text(f"{days} {number}")
        clock = {"ODD_CLOCK": str(when * DAY)}
        odd.odd("build", "-t", "clock", context, **clock)
        odd.odd("build", "-o", tmp_path / f"out{number}", context, **clock)
        assert (tmp_path / f"out{number}/c/f").read_text() == f"{days} {number}"
    odd.odd("du", ODD_CLOCK=str(days * DAY))
    odd.odd("prune", "--force", "--filter", "until=24h", ODD_CLOCK=str(days * DAY))
    odd.odd("build", "-o", tmp_path / "last", context)
    assert tree(tmp_path / "last/c/d") == tree(context / "d")


@pytest.mark.parametrize("jump", [DAY, 3 * 365 * DAY])
def test_a_clock_that_jumps_during_a_build_harms_nothing(
    odd: Odd, context: Path, tmp_path: Path, jump: int
) -> None:
    """Every seventh time that somebody asks; no step takes less than no time either."""
    for number in range(2):
        (context / "f").write_text(f"{jump} {number}")
        words = ("build", "--progress=plain", "-t", "jumps", context)
        done = odd.odd(*words, ODD_JUMPS=str(jump))
        assert not re.search(r"^#\d+ (DONE )?-\d", done.err, re.MULTILINE), done.err
        odd.odd("build", "-o", tmp_path / f"out{number}", context, ODD_JUMPS=str(jump))
        assert (tmp_path / f"out{number}/c/f").read_text() == f"{jump} {number}"
    odd.odd("prune", "--force", ODD_JUMPS=str(jump))
    odd.odd("du", ODD_JUMPS=str(jump))
    odd.odd("build", context)


def test_only_the_time_of_day_jumps(odd: Odd) -> None:
    """The library does what these tests believe."""
    program = "import time; print(time.time(), time.monotonic())"
    env = {"LD_PRELOAD": str(odd.library), "ODD_CLOCK": str(DAY)}
    said: list[list[float]] = []
    for given in (env, {}):
        done = subprocess.run(
            ["python3", "-I", "-c", program],
            env={**odd.environment, **given},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        said.append([float(word) for word in done.stdout.split()])
    assert said[0][0] - said[1][0] > DAY / 2
    assert abs(said[0][1] - said[1][1]) < DAY / 2
