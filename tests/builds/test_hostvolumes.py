"""``-v HOST:PATH`` as it is written: what it means, and what is refused with its way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.builds.hostvolumes import parse_volumes
from pybuild.commandline.building import BUILD
from pybuild.commandline.parser import parse
from pybuild.model.errors import UsageError
from pybuild.model.volumes import HostVolume, VolumeAccess


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "d").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "broken").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_content_counts_and_nothing_is_written_unless_it_is_said(here: Path) -> None:
    def volume(mode: str) -> HostVolume:
        (made,) = parse_volumes([f"{here}/d:/in{mode}"])
        return made

    d = str(here / "d")
    plain = HostVolume(source=d, target="/in")
    assert plain == HostVolume(source=d, target="/in", access=VolumeAccess.READONLY, in_key=True)
    for mode in ("", ":ro", ":z", ":ro,Z", ":ro,ro"):
        assert volume(mode) == plain, mode
    unkeyed = HostVolume(source=d, target="/in", in_key=False)
    for mode in (",nokey", ":nokey", ":ro,nokey", ":nokey,ro"):
        assert volume(mode) == unkeyed, mode
    assert volume(":O") == HostVolume(source=d, target="/in", access=VolumeAccess.SCRATCH)
    writable = HostVolume(source=d, target="/in", access=VolumeAccess.WRITABLE, in_key=False)
    assert volume(":rw") == volume(":rw,nokey") == writable


def test_paths_begin_here_or_at_home_and_links_are_followed(here: Path) -> None:
    for source in ("./d", ".//d/../d", "~/d", "./link", f"../{here.name}/d"):
        (made,) = parse_volumes([f"{source}:/a//b/./c/"])
        assert (made.source, made.target) == (str(here / "d"), "/a/b/c"), source


REFUSED = {
    "": ("expected HOST:PATH", "RUN --mount=type=tmpfs,target=/PATH"),
    "/in": ("expected HOST:PATH", "RUN --mount=type=tmpfs,target=/in"),
    "./d:": ("expected HOST:PATH", "RUN --mount=type=tmpfs"),
    "d:/in": ("d is a name, and there are no named volumes", "a directory here is ./d"),
    "./none:/in": ("./none: no such directory", "mkdir -p {here}/none"),
    "./broken:/in": ("its link leads nowhere: {here}/nowhere", "mkdir -p {here}/nowhere"),
    "./file:/in": ("./file: not a directory", "--secret id=NAME,src=FILE"),
    "./d:in": ("must be absolute", "write /in"),
    "./d:/a/../in": ('has ".." in it', "write /in"),
    "./d:/": ("/ is the image itself", "such as /mnt"),
    "./d:/proc": ("/proc is the kernel's", "such as /mnt"),
    "./d:/dev/shm": ("/dev/shm is the kernel's", "such as /mnt"),
    "/proc:/in": ("the content of /proc is no part of a key", ":ro,nokey"),
    "/:/in": ("the content of / is no part of a key", ":ro,nokey"),
    "./d:/in:U": ("the option U is not done", "RUN chown"),
    "./d:/in:ro,cached": ("the option cached is not done", "there are ro, rw, O, nokey, z and Z"),
    "./d:/in:ro,rw": ("ro and rw exclude each other", "rw: it stays in the directory"),
    "./d:/in:ro,": ("the option between two commas", "there are ro"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_is_refused_with_the_way_out(here: Path, text: str) -> None:
    cause, hint = (part.replace("{here}", str(here)) for part in REFUSED[text])
    with pytest.raises(UsageError) as caught:
        parse_volumes([text])
    assert cause in caught.value.message
    assert hint in " ".join(caught.value.hints)


def test_one_volume_in_another_is_refused(here: Path) -> None:
    parse_volumes(["./d:/a", "./d:/ab", "./link:/b"])
    cases: dict[str, tuple[str, ...]] = {
        "the volume /a is given twice": ("./d:/a", "./link:/b", "./d:/a/"),
        "the volume /a/b lies in the volume /a": ("./d:/a/b", "./d:/a-", "./d:/a"),
    }
    for cause, texts in cases.items():
        with pytest.raises(UsageError) as caught:
            parse_volumes(texts)
        assert caught.value.message == cause


def test_what_is_unreadable_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, mode: int) -> bool:
        return False  # root may read all

    monkeypatch.setattr("os.access", refuse)
    with pytest.raises(UsageError, match="permission denied"):
        parse_volumes(["./d:/in"])


def test_it_is_short_for_volume_and_repeats() -> None:
    parsed = parse(["-v", "./a:/a", "-v./b:/b", "--volume=./c:/c", "."], BUILD.options)
    assert parsed.many("volume") == ["./a:/a", "./b:/b", "./c:/c"]
