"""Times that outputs show: SOURCE_DATE_EPOCH from wherever it comes, and clamped layers [REP]."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.gitservers import Repository, git_daemon, need_git
from tests.harness import Pybuild, write
from tests.webservers import site

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

EPOCH = 1673354096
SHOWN = "2023-01-10T12:34:56Z"
NOTE = "buildkit/rewritten-timestamp"
CREATED = "org.opencontainers.image.created"
DOCKERFILE = """\
FROM base
WORKDIR /w
RUN touch /now && touch -d @1262349296 /old && touch -d @1893500000 /late && rm -f /etc/group
COPY f /f
CMD ["x"]
"""


class Layout:
    """An OCI layout directory with one image, or an index of several."""

    def __init__(self, path: Path) -> None:
        self._path = path
        (self.entry,) = json.loads((path / "index.json").read_text())["manifests"]
        self.top = self.read(self.entry["digest"])

    def blob(self, digest: str) -> bytes:
        return (self._path / "blobs" / digest.replace(":", "/")).read_bytes()

    def read(self, digest: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.blob(digest))
        return found

    @property
    def config(self) -> dict[str, Any]:
        return self.read(self.top["config"]["digest"])

    def times(self, layer: int) -> dict[str, float]:
        data = gzip.decompress(self.blob(self.top["layers"][layer]["digest"]))
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return {member.name: member.mtime for member in tar.getmembers()}


def layout(pybuild: Pybuild, where: Path, *words: str | Path, attrs: str = "") -> Layout:
    pybuild("build", "-o", f"type=oci,tar=false,dest={where}{attrs}", *words)
    return Layout(where)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    made = write(tmp_path / "ctx", Dockerfile=DOCKERFILE, f="x")
    os.utime(made / "f", (1893500000, 1893500000))
    return made


def test_new_layers_are_clamped_and_those_of_the_base_are_not(
    pybuild: Pybuild, base: str, context: Path, tmp_path: Path
) -> None:
    """REP-2, REP-3, REP-5, CP-24: made anew it is the same image, byte by byte."""
    words: list[str | Path] = ["--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}", context]
    one = layout(pybuild, tmp_path / "1", *words, attrs=",rewrite-timestamp=true")
    notes = [layer.get("annotations", {}).get(NOTE) for layer in one.top["layers"]]
    assert notes == [None, str(EPOCH), str(EPOCH), str(EPOCH)]
    plain = layout(pybuild, tmp_path / "2", *words)
    assert one.top["layers"][0] == plain.top["layers"][0]
    assert all("annotations" not in layer for layer in plain.top["layers"])
    assert one.times(1) == {"w": EPOCH}
    times = one.times(2)
    assert (times["now"], times["old"], times["late"]) == (EPOCH, 1262349296, EPOCH)
    assert times["etc/.wh.group"] == 0
    assert one.times(3) == {"f": EPOCH} and plain.times(3) == {"f": 1893500000}
    for found in (one, plain):
        assert found.config["created"] == SHOWN
        added = found.config["history"][-4:]
        assert {entry["created"] for entry in added} == {SHOWN}
        assert found.config["history"][0]["created"] > SHOWN
        assert found.entry["annotations"][CREATED] == SHOWN
    pybuild("build", "--no-cache", "-o", "type=cacheonly", *words)
    again = layout(pybuild, tmp_path / "3", *words, attrs=",rewrite-timestamp=true")
    assert again.entry == one.entry


@pytest.mark.parametrize(
    ("attrs", "created", "note"),
    [
        (",source-date-epoch=1600000000", "2020-09-13T12:26:40Z", "1600000000"),
        (",source-date-epoch=1700000000", SHOWN, "1700000000"),
        (",source-date-epoch=", SHOWN, None),
        (",oci-mediatypes=false", SHOWN, None),
    ],
)
def test_output_has_the_last_word(
    pybuild: Pybuild, tmp_path: Path, attrs: str, created: str, note: str | None
) -> None:
    """REP-2, OUT-1: what the build dates stays, up to what the output says."""
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY f /\n", f="x")
    words: list[str | Path] = ["--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}", context]
    found = layout(pybuild, tmp_path / "out", *words, attrs=f",rewrite-timestamp=true{attrs}")
    assert found.config["created"] == created
    assert found.top["layers"][0].get("annotations", {}).get(NOTE) == note


def test_output_alone_dates_what_the_build_does_not(pybuild: Pybuild, tmp_path: Path) -> None:
    """REP-2: and rewriting without a date does nothing, and says so."""
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY f /\nCMD x\n", f="x")
    attrs = f",source-date-epoch={EPOCH}"
    found = layout(pybuild, tmp_path / "out", context, attrs=attrs)
    assert {entry["created"] for entry in found.config["history"]} == {SHOWN}
    dest = f"type=oci,dest={tmp_path}/x.tar,rewrite-timestamp=true"
    done = pybuild("build", "-o", dest, context)
    assert "no source-date-epoch was found" in done.err


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ("type=oci,dest=x,source-date-epoch=now", "invalid source-date-epoch: now"),
        ("type=image,rewrite-timestamp=true,unpack=true", 'conflicts with "unpack"'),
        ("type=local,dest=x,rewrite-timestamp=true", 'no attribute "rewrite-timestamp"'),
    ],
)
def test_wrong_attributes_of_outputs(
    pybuild: Pybuild, tmp_path: Path, attrs: str, message: str
) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY f /\n", f="x")
    assert message in pybuild("build", "-o", attrs, context, code=2, cwd=tmp_path).err


def test_directories_and_tars_are_as_old_as_the_epoch(pybuild: Pybuild, tmp_path: Path) -> None:
    """REP-2, OUT-5, OUT-6: all of it, whatever it was."""
    context = write(
        tmp_path / "ctx",
        **{"Dockerfile": f"ARG SOURCE_DATE_EPOCH={EPOCH}\nFROM scratch\nCOPY d /d\n", "d/f": "x"},
    )
    os.utime(context / "d/f", (1000, 1000))
    pybuild("build", "-o", tmp_path / "out", "-o", f"type=tar,dest={tmp_path}/out.tar", context)
    assert {path.stat().st_mtime for path in (tmp_path / "out").rglob("*")} == {EPOCH}
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert {member.mtime for member in tar.getmembers()} == {EPOCH}
    pybuild("build", "-o", f"type=local,dest={tmp_path}/no,source-date-epoch=", context)
    assert (tmp_path / "no/d/f").stat().st_mtime == 1000


def archive(**files: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for number, (name, text) in enumerate(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(text), EPOCH - number
            tar.addfile(info, io.BytesIO(text.encode()))
    return data.getvalue()


def test_word_context_is_the_newest_file_of_an_archive(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """REP-1: a step that declares it sees the number."""
    text = "FROM base\nARG SOURCE_DATE_EPOCH\nRUN echo -n $SOURCE_DATE_EPOCH > /epoch\n"
    with site() as served:
        served.files["/c.tar"] = archive(f="x", Dockerfile=text)
        words: list[str | Path] = [
            "--build-arg",
            "SOURCE_DATE_EPOCH=context",
            f"{served.url}/c.tar",
        ]
        found = layout(pybuild, tmp_path / "1", *words)
        assert found.config["created"] == SHOWN
        pybuild("build", "-o", tmp_path / "out", *words)
        assert (tmp_path / "out/epoch").read_text() == str(EPOCH)
        assert (tmp_path / "out/epoch").stat().st_mtime == EPOCH


def test_word_context_is_nothing_for_a_directory(pybuild: Pybuild, tmp_path: Path) -> None:
    """REP-1."""
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY f /\n", f="x")
    words: list[str | Path] = ["--build-arg", "SOURCE_DATE_EPOCH=context", context]
    found = layout(pybuild, tmp_path / "1", *words, attrs=",rewrite-timestamp=true")
    assert "annotations" not in found.top["layers"][0]
    assert found.config["created"] > "2024"


def test_names_of_stages_and_contexts(pybuild: Pybuild, tmp_path: Path) -> None:
    """REP-1: asked again by each build, since another file may be there."""
    with site() as served:
        served.files["/s.tar"] = archive(f="x")
        text = "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD URL /\nFROM scratch\nCOPY f /\n"
        context = write(
            tmp_path / "ctx", Dockerfile=text.replace("URL", f"{served.url}/s.tar"), f="x"
        )
        assert layout(pybuild, tmp_path / "1", context).config["created"] == SHOWN
        pybuild("build", "-t", "a", context)
        other = "ARG SOURCE_DATE_EPOCH=src\nFROM scratch\nCOPY f /\n"
        context = write(tmp_path / "other", Dockerfile=other, f="x")
        words: list[str | Path] = ["--build-context", f"src={served.url}/s.tar", context]
        assert layout(pybuild, tmp_path / "2", *words).config["created"] == SHOWN
        served.files["/s.tar"] = archive(f="x", g="y")[512 * 2 :]
        pybuild("build", "-t", "a", tmp_path / "ctx")
        assert (
            json.loads(pybuild("inspect", "--oci", "a").out)["config"]["created"]
            == "2023-01-10T12:34:55Z"
        )
        bad = write(tmp_path / "bad", Dockerfile=f"ARG SOURCE_DATE_EPOCH=x\n{other[26:]}", f="x")
        assert "invalid SOURCE_DATE_EPOCH: x" in pybuild("build", bad, code=1).err


def test_word_context_is_the_time_of_the_commit(pybuild: Pybuild, tmp_path: Path) -> None:
    """REP-1, CTX-5."""
    need_git()
    (tmp_path / "served").mkdir()
    repository = Repository(tmp_path / "served/app.git")
    repository.commit({"Dockerfile": "FROM scratch\nCOPY . /\n", "a": "1"})
    with git_daemon(tmp_path / "served") as url:
        words: list[str | Path] = ["--build-arg", "SOURCE_DATE_EPOCH=context", f"{url}/app.git"]
        found = layout(pybuild, tmp_path / "1", *words)
    assert found.config["created"] == "2023-11-14T22:13:20Z"
    assert set(found.times(0).values()) == {1700000000}
