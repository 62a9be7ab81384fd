"""No entry of an archive leaves the destination of its ADD, on any rung or through the server [E156]."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.daemon.buildsites import daemon
from tests.executor.contract.rungs import RUNGS, command_on, place_for
from tests.harness import Pybuild, write
from tests.security import archives
from tests.security.archivemembers import Attempt, f, link, pack
from tests.security.archives import ATTEMPTS, Tree, read_tree
from tests.webservers import site

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

_OURS = {rung.name: rung for rung in RUNGS if not rung.runtime}
Wrong = dict[str, list[str]]


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    return Pybuild(tmp_path / "store")


@pytest.fixture(scope="module", params=[*_OURS, "server"])
def wrong(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Wrong:
    """Return the misdeeds of each archive, on one rung."""
    if request.param == "server":
        return _on_a_server(tmp_path_factory.mktemp("server"))
    rung = _OURS[request.param]
    with place_for(rung) as user:
        place = user.place / "archives"
        place.mkdir()
        os.chown(place, rung.uid, rung.uid)
        command, environment = command_on(rung, user, archives.program(), str(place))
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=False, env=environment
        )
    if "No module named" in done.stderr:
        pytest.skip("its Python does not find our dependencies")
    assert done.returncode == 0, done.stderr
    found: Wrong = json.loads(done.stdout)
    return found


def _on_a_server(place: Path) -> Wrong:
    with daemon(Pybuild(place / "store"), place) as server:
        client = Pybuild(place / "none")
        context, out = place / "context", place / "out.tar"

        def build(dockerfile: str) -> Tree | str:
            write(context, Dockerfile=dockerfile)
            words = ("-H", server.address, "build", "-o", f"type=tar,dest={out}", context)
            done = client(*words, code=None)
            return done.err if done.code else read_tree(out)

        return archives.run_all(context, build, refused=False)


def test_names_are_unique_and_enough() -> None:
    names = [attempt.name for attempt in ATTEMPTS]
    assert len(names) == len(set(names))
    assert len(names) >= 130


@pytest.mark.slow
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.name)
def test_an_archive_stays_in_its_destination(wrong: Wrong, attempt: Attempt) -> None:
    if attempt.name not in wrong:
        pytest.skip("a server refuses it in the same process; each takes a client's time")
    assert wrong[attempt.name] == []


# --- other ways in --------------------------------------------------------------------------------

_CLIMBS = (link("l", "/etc"), f("l/passwd"), link("symdir1", ".."), f("symdir1/etc/myfile"))


@pytest.fixture
def url() -> Generator[str]:
    with site() as web:
        web.files["/a.tar"] = pack(_CLIMBS)
        yield f"{web.url}/a.tar"


def _tree(pybuild: Pybuild, tmp_path: Path, dockerfile: str) -> Tree:
    context = tmp_path / "context"
    archives.prepare(context)
    (context / "a.tar").write_bytes(pack(_CLIMBS))
    write(context, Dockerfile=f"FROM scratch\nADD base.tar /\n{dockerfile}\n")
    pybuild("build", "-o", f"type=tar,dest={tmp_path}/out.tar", context)
    return read_tree(tmp_path / "out.tar")


@pytest.mark.slow
@pytest.mark.parametrize("words", ["ADD --unpack=true {url}", "ADD --unpack {url}", "ADD a.tar"])
def test_an_archive_from_anywhere_stays_in_its_destination(
    pybuild: Pybuild, tmp_path: Path, url: str, words: str
) -> None:
    tree = _tree(pybuild, tmp_path, words.format(url=url) + " /d")
    assert tree["/etc/passwd"][0] == "base" and "/etc/myfile" not in tree
    assert tree["/d/etc/passwd"][0] == tree["/d/etc/myfile"][0] == "evil"


@pytest.mark.slow
@pytest.mark.parametrize("words", ["ADD {url}", "ADD --unpack=false a.tar", "COPY a.tar"])
def test_what_is_not_unpacked_stays_an_archive(
    pybuild: Pybuild, tmp_path: Path, url: str, words: str
) -> None:
    tree = _tree(pybuild, tmp_path, words.format(url=url) + " /d/")
    assert [path for path in tree if path.startswith("/d/")] == ["/d/a.tar"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["standard input", "url"])
def test_an_archive_as_context_stays_in_the_context(
    pybuild: Pybuild, tmp_path: Path, way: str
) -> None:
    text = "FROM scratch\nCOPY . /\n"
    body = pack((f("Dockerfile", text), *_CLIMBS))
    words: tuple[str, ...] = ("build", "-o", f"type=tar,dest={tmp_path}/out.tar")
    if way == "url":
        with site() as web:
            web.files["/c.tar"] = body
            pybuild(*words, f"{web.url}/c.tar")
    else:
        pybuild(*words, "-", stdin=body)
    tree = read_tree(tmp_path / "out.tar")
    assert tree["/etc/passwd"][0] == tree["/etc/myfile"][0] == "evil"
    assert tree["/l"][0] == "-> /etc"


@pytest.mark.slow
def test_an_imported_archive_stays_in_its_image(pybuild: Pybuild, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(pack(_CLIMBS))
    pybuild("import", tmp_path / "a.tar", "evil:1")
    write(tmp_path / "c", Dockerfile="FROM evil:1\n")
    pybuild("build", "-o", f"type=tar,dest={tmp_path}/out.tar", tmp_path / "c")
    tree = read_tree(tmp_path / "out.tar")
    assert tree["/etc/passwd"][0] == tree["/etc/myfile"][0] == "evil"
