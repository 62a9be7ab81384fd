"""An image out of a tar: which Dockerfile is built, and what is none."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from pybuild.builds import imageimport
from pybuild.builds.imageimport import import_image
from pybuild.builds.request import BuildRequest
from pybuild.model.errors import UsageError, UserError
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference

NAME = Reference.parse("docker.io/library/a:1")


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("file"))
    return out.getvalue()


class Builds:
    """Keeps what it is to build, and what lies in the context meanwhile."""

    def __init__(self, fetched: bytes = b"") -> None:
        self.requests: list[BuildRequest] = []
        self.context: dict[str, bytes] = {}
        self._fetched = fetched

    def __call__(self, request: BuildRequest) -> str:
        self.requests.append(request)
        context = Path(str(request.context))
        for output in request.outputs:
            Path(output.dest, "rootfs.tar").write_bytes(self._fetched)
        self.context = {path.name: path.read_bytes() for path in context.iterdir()}
        return "sha256:1"

    def run(self, source: str, *changes: str) -> str:
        return import_image(source, changes, self, platforms=[LINUX_AMD64], tags=[NAME])


def test_a_file_is_unpacked_into_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    file.write_bytes(archive())
    builds = Builds()
    assert builds.run(str(file), "ENV a=b", "user x") == "sha256:1"
    [request] = builds.requests
    assert request.dockerfile_text == b"FROM scratch\nADD rootfs.tar /\nENV a=b\nuser x\n"
    assert (request.platforms, request.tags) == ((LINUX_AMD64,), (NAME,))
    assert builds.context == {"rootfs.tar": archive()}


def test_standard_input_is_copied_first(monkeypatch: pytest.MonkeyPatch) -> None:
    written = [archive()]

    def write(path: str) -> None:
        Path(path).write_bytes(written[0])

    monkeypatch.setattr(imageimport, "copy_archive", write)
    builds = Builds()
    builds.run("-")
    assert builds.context == {"rootfs.tar": archive()}
    written[:] = [b""]
    with pytest.raises(UserError, match="standard input is no tar archive"):
        builds.run("-")


def test_what_a_url_has_is_looked_at_first() -> None:
    builds = Builds(archive())
    builds.run("https://x.example/a.tar")
    assert [request.dockerfile_text for request in builds.requests] == [
        b"FROM scratch\nADD --unpack=false https://x.example/a.tar /rootfs.tar\n",
        b"FROM scratch\nADD --unpack=true https://x.example/a.tar /\n",
    ]


@pytest.mark.parametrize("fetched", [b"no archive", b"", bytes(10240)])
def test_what_is_no_archive_is_not_copied(tmp_path: Path, fetched: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(fetched)
    for source in (str(file), "https://x.example/file"):
        builds = Builds(fetched)
        with pytest.raises(UserError, match="is no tar archive with files in it"):
            builds.run(source)
        assert len(builds.requests) == ("://" in source)


@pytest.mark.parametrize("change", ["", "  ", "RUN x", "COPY a b", "ENV a=b\nRUN x"])
def test_a_change_says_something_of_the_image_alone(change: str) -> None:
    with pytest.raises(UsageError, match="invalid change"):
        Builds().run("/none.tar", change)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"open /none.tar: no such file or directory"):
        Builds().run("/none.tar")
