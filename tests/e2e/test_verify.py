"""``pybuild verify``: the same twice, or the step, the file and the byte that are not [issue 6, show 7]."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.harness import Pybuild, leftovers, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.usefixtures("base")]

STEADY = "FROM base\nCOPY f /f\nRUN cat /f > /made; touch /now\n"
ODD = STEADY + "RUN mkdir /d; cat /proc/sys/kernel/random/uuid > /d/uuid; echo same > /d/same\n"


def test_a_steady_build_is_the_same_twice(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write(tmp_path / "ctx", Dockerfile=STEADY, f="x")
    pybuild("build", "-q", context)
    done = pybuild("verify", "--progress=plain", context)
    assert done.out.startswith("the same image twice: sha256:")
    first, _, second = done.err.partition("second build")
    assert "RUN cat" in first
    assert "CACHED" not in second
    assert leftovers(pybuild.store) == []
    assert not list(
        (pybuild.store / "tmp").glob("*verify")
    )  # renamed at once, deleted when there is time


def test_what_a_cache_hides_is_found(pybuild: Pybuild, tmp_path: Path) -> None:
    """The first build takes it from the cache, the second makes it again."""
    context = write(tmp_path / "ctx", Dockerfile=ODD, f="x")
    pybuild("build", "-q", context)
    done = pybuild("verify", "-q", "--format=json", context, code=1)
    found = json.loads(done.out)
    assert found["first"] != found["second"]
    (difference,) = found["differences"]
    assert (difference["what"], difference["path"]) == ("content", "d/uuid")
    assert difference["step"].startswith("RUN /bin/sh -c mkdir /d;")
    text = pybuild("verify", "-q", context, code=1).out
    assert re.search(r"\n  /d/uuid: byte \d+ is '", text)  # two numbers may begin alike
    assert done.err == ""


def test_a_build_that_fails_verifies_nothing(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nRUN exit 3\n")
    done = pybuild("verify", "-q", context, code=1)
    assert "exit code: 3" in done.err
    assert not list(
        (pybuild.store / "tmp").glob("*verify")
    )  # renamed at once, deleted when there is time
