"""``build`` over Docker's API, by an engine that serves it here: a context goes there, trees come back [EP-5]."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pybuild.client.docker.building import build
from pybuild.client.docker.creation import CreationOptions
from pybuild.client.docker.images import pull
from pybuild.client.docker.requests import Requests
from pybuild.commandline import find
from pybuild.commandline.parser import HOST, TLS, parse
from pybuild.model.errors import PybuildError, UsageError, UserError
from tests.containers.busyboxes import BusyboxContainers
from tests.daemon.restengines import rest_engine

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


@pytest.fixture
def engine(tmp_path: Path) -> Generator[tuple[Requests, BusyboxContainers]]:
    with rest_engine(tmp_path) as made:
        yield made


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / "context"
    place.mkdir()
    (place / "Dockerfile").write_text("FROM scratch\nCOPY . /c/\n")
    (place / "kept").write_text("kept")
    (place / "left").write_text("left")
    (place / "link").symlink_to("kept")
    (place / "d").mkdir()
    (place / "d/inner").write_text("inner")
    (place / ".dockerignore").write_text("left\n.dockerignore\n")
    return place


def options(*words: str) -> CreationOptions:
    known = find("build")
    assert known is not None
    return parse(words, (*known.options, HOST, *TLS))


class Asked:
    """An engine that notes the query and the context of a build, and builds nothing."""

    def __init__(self, *lines: dict[str, Any]) -> None:
        self.lines_to_say = lines
        self.query: dict[str, Any] = {}
        self.names: list[str] = []
        self.texts: dict[str, bytes] = {}

    def lines(self, method: str, path: str, query: Any, body: Any, headers: Any) -> Any:
        assert (method, path) == ("POST", "/build")
        self.query = dict(query)
        self.headers = headers
        if body is not None:
            with tarfile.open(fileobj=body) as archive:
                for member in archive:
                    self.names.append(member.name)
                    assert (member.uid, member.gid, member.uname) == (0, 0, "")
                    if member.isreg():
                        file = archive.extractfile(member)
                        assert file is not None
                        self.texts[member.name] = file.read()
        return iter(self.lines_to_say)


def asked(*words: str) -> Asked:
    made = Asked()
    assert build(made, options(*words), lambda text: None) == 0  # type: ignore[arg-type]
    return made


def test_a_directory_is_built_and_its_tree_comes_back(
    engine: tuple[Requests, BusyboxContainers],
    context: Path,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    requests, said = engine[0], list[str]()
    out, tar, id = tmp_path / "out", tmp_path / "out.tar", tmp_path / "id"
    words: tuple[str, ...] = ("-t", "app:1", "-o", str(out), "--iidfile", str(id), str(context))
    assert build(requests, options(*words), said.append) == 0
    assert (out / "c/kept").read_text() == "kept" and (out / "c/d/inner").read_text() == "inner"
    assert os.readlink(out / "c/link") == "kept"
    assert not (out / "c/left").exists() and not (out / "c/.dockerignore").exists()
    assert "COPY . /c/" in "\n".join(said)
    (image,) = requests.ask("GET", "/images/json")
    assert (image["RepoTags"], image["Id"]) == (["app:1"], id.read_text())
    assert requests.ask("GET", "/containers/json", {"all": True}) == []
    words = ("-q", "-o", f"type=tar,dest={tar}", "--label", "a=b", str(context))
    assert build(requests, options(*words), said.append) == 0
    with tarfile.open(tar) as archive:
        assert "c/kept" in [name.removeprefix("./") for name in archive.getnames()]
    shown = capfdbinary.readouterr().out.decode().strip()
    assert requests.ask("GET", f"/images/{shown}/json")["Config"]["Labels"] == {"a": "b"}
    (context / "Dockerfile").write_text("FROM scratch\nCOPY nothing /\n")
    with pytest.raises(PybuildError, match='"nothing" is not in the context'):
        build(requests, options(str(context)), said.append)


def test_the_context_is_what_the_ignore_file_leaves(context: Path, tmp_path: Path) -> None:
    made = asked(str(context))
    assert made.names == ["Dockerfile", "kept", "link", "d", "d/inner"]
    assert made.query == {"dockerfile": "Dockerfile"}
    other = tmp_path / "Other"
    other.write_text("FROM scratch\n")
    (tmp_path / "Other.dockerignore").write_text("d\n")
    made = asked("-f", str(other), str(context))
    assert made.query["dockerfile"] == ".dockerfile.of-the-build"
    assert made.texts[".dockerfile.of-the-build"] == b"FROM scratch\n"
    assert "d/inner" not in made.names and "left" in made.names
    made = asked("-f", str(context / "kept"), str(context))
    assert made.query["dockerfile"] == "kept"
    for url in ("https://example.com/a.git", "git@example.com:a.git"):
        made = asked("-f", "F", url)
        assert made.query == {"remote": url, "dockerfile": "F"}
    with pytest.raises(UserError, match='context directory ".*/none" does not exist'):
        asked(str(tmp_path / "none"))


def test_the_query_says_what_is_wanted(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "of here")
    monkeypatch.delenv("NOWHERE", raising=False)
    words: tuple[str, ...] = (
        "-t",
        "a:1",
        "-t",
        "b:2",
        "--target",
        "x",
        "--platform",
        "linux/arm64",
        "--no-cache",
        "--pull",
    )
    words += ("--network", "none", "--add-host", "h=1.2.3.4", "--label", "l", "--shm-size", "1m")
    words += ("--build-arg", "A=1", "--build-arg", "HERE", "--build-arg", "NOWHERE")
    made = asked(*words, "--creds", "me:secret", str(context))
    assert json.loads(made.query.pop("buildargs")) == {"A": "1", "HERE": "of here"}
    assert json.loads(made.query.pop("labels")) == {"l": ""}
    assert made.query == {
        "t": ["a:1", "b:2"], "target": "x", "platform": "linux/arm64", "nocache": True, "pull": True,
        "networkmode": "none", "extrahosts": ["h:1.2.3.4"], "shmsize": str(1 << 20), "dockerfile": "Dockerfile",
    }  # fmt: skip
    assert made.headers["Content-Type"] == "application/x-tar"
    assert made.headers["X-Registry-Config"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--secret", "id=x,src=y"), "--secret is not done over Docker's API"),
        (("--platform", "linux/amd64,linux/arm64"), "one platform at a time"),
        (("-o", "a", "-o", "b"), "one --output at a time"),
        (("-o", "type=oci,dest=x"), "type=local and type=tar are, with a dest"),
        (("-o", "type=local"), "type=local and type=tar are, with a dest"),
    ],
)
def test_what_that_api_has_no_word_for_is_refused(
    words: tuple[str, ...], message: str, context: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        asked(*words, str(context))


def test_lines_of_a_pull_are_shown_when_their_words_change() -> None:
    class Engine:
        def lines(self, method: str, path: str, query: Any = None, headers: Any = None) -> Any:
            assert (method, path, query) == (
                "POST", "/images/create", {"fromImage": "docker.io/library/a", "tag": "1"}
            )  # fmt: skip
            return iter((
                {"status": "Pulling from library/a"}, {"status": "Waiting", "id": "l"},
                {"status": "Waiting", "id": "l"}, {"status": "Waiting", "id": "m"}, {"id": "m"},
                {"status": "Done", "id": "l"},
            ))  # fmt: skip

    said: list[str] = []
    pull(Engine(), options("."), "a:1", said.append)  # type: ignore[arg-type]
    assert said == ["Pulling from library/a", "l: Waiting", "m: Waiting", "l: Done"]
