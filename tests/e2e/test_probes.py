"""Steps run again when a file elsewhere is another one: ``# pybuild: probe=URL`` [KEY-11]."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e.caches import Built, Machines
from tests.e2e.remotes import Remote
from tests.harness import Pybuild
from tests.webservers import Site, site

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

TEXT = """\
FROM base AS build
ARG MIRROR
RUN echo early > /early
# pybuild: {notes}
RUN cat /proc/sys/kernel/random/uuid > /made
RUN cat /made > /copy
FROM scratch
COPY --from=build /copy /made
"""
STEP, AFTER, COPY = (
    "RUN cat /proc/sys/kernel/random/uuid > /made",
    "RUN cat /made > /copy",
    "COPY --from=build /copy /made",
)


@pytest.fixture
def machines(tmp_path: Path, base_store: Path) -> Machines:
    return Machines(tmp_path, base_store)


@pytest.fixture
def mirrors() -> Generator[Site]:
    """Serve two mirrors of a distribution, each with its index."""
    with site() as served:
        served.files |= {"/one/InRelease": b"1", "/two/InRelease": b"1"}
        yield served


def _write(machines: Machines, notes: str) -> None:
    (machines.context / "Dockerfile").write_text(TEXT.format(notes=notes))


def _built(machines: Machines, machine: Pybuild, mirrors: Site, *words: str) -> Built:
    return machines.build(machine, "--build-arg", f"MIRROR={mirrors.url}/one", *words)


def test_a_step_runs_again_when_an_index_changed_and_not_otherwise(
    machines: Machines, mirrors: Site
) -> None:
    machine = machines.fresh()
    _write(machines, f"probe=$MIRROR/InRelease probe={mirrors.url}/two/InRelease")
    first = _built(machines, machine, mirrors)
    assert _built(machines, machine, mirrors).ran == []
    mirrors.files["/two/InRelease"] = b"2"
    second = _built(machines, machine, mirrors, "--explain")
    assert second.ran == [COPY, AFTER, STEP]
    assert f"because what PROBE {mirrors.url}/two/InRelease stands for was" in second.log
    mirrors.files["/one/InRelease"] = b"2"
    assert _built(machines, machine, mirrors).ran == [COPY, AFTER, STEP]
    mirrors.files |= {"/one/InRelease": b"1", "/two/InRelease": b"1"}
    again = _built(machines, machine, mirrors)  # as it was: so is the result
    assert (again.ran, again.made) == ([], first.made)


def test_a_memo_does_not_answer_for_an_index(machines: Machines, mirrors: Site) -> None:
    machine = machines.fresh()
    _write(machines, "probe=$MIRROR/InRelease")
    words = ("-o", "type=image,name=x")
    _built(machines, machine, mirrors, *words)
    assert _built(machines, machine, mirrors, *words).ran == []
    mirrors.files["/one/InRelease"] = b"2"
    assert _built(machines, machine, mirrors, *words).ran == [COPY, AFTER, STEP]


def test_an_image_is_the_same_with_a_probe_and_without(machines: Machines, mirrors: Site) -> None:
    def digest(notes: str) -> bytes:
        out, text = machines.where / "image.tar", "FROM base\n# pybuild: {}\nRUN ls -a / > /made\n"
        (machines.context / "Dockerfile").write_text(text.format(notes))
        output = f"type=oci,dest={out},rewrite-timestamp=true"
        built = machines.build(machine, output=output, env={"SOURCE_DATE_EPOCH": "1"})
        assert built.ran == ["RUN ls -a / > /made"]
        return out.read_bytes()

    machine = machines.fresh()
    assert digest("nothing=1") == digest(f"probe={mirrors.url}/one/InRelease")


def test_an_index_that_is_not_there_is_said_with_its_line(
    machines: Machines, mirrors: Site
) -> None:
    _write(machines, "probe=$MIRROR/none")
    failed = machines.build(machines.fresh(), "--build-arg", f"MIRROR={mirrors.url}", code=1)
    assert f"{mirrors.url}/none" in failed.log and "404" in failed.log
    assert "Dockerfile:5\n" in failed.log


def test_a_server_asks_for_an_index_too(machines: Machines, mirrors: Site, tmp_path: Path) -> None:
    (tmp_path / "sockets").mkdir()
    _write(machines, "probe=$MIRROR/InRelease")
    with machines.server(tmp_path / "sockets") as server:
        remote = Remote(tmp_path / "here", host=server.address)
        _built(machines, remote, mirrors)
        assert _built(machines, remote, mirrors).ran == []
        mirrors.files["/one/InRelease"] = b"2"
        assert _built(machines, remote, mirrors).ran == [COPY, AFTER, STEP]
