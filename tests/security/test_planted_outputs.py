"""Results that somebody else's link would lead elsewhere: refused, and nothing elsewhere changes."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from pybuild.exporter.atomicfile import whole_file, write_whole
from pybuild.exporter.check import check_directory, check_file
from pybuild.model.errors import UsageError
from tests.harness import Pybuild, write
from tests.security import planting
from tests.security.planting import STRANGER

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make files of somebody else"),
]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    return planting.make_victim(tmp_path / "victim")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory for everybody, as /tmp is one."""
    made = tmp_path / "everybodys"
    made.mkdir()
    made.chmod(0o1777)
    return made


def link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
    return path


def pipe(path: Path, _target: Path) -> Path:
    os.mkfifo(path, 0o666)
    os.chown(path, STRANGER, STRANGER)
    return path


def on_the_way(path: Path, target: Path) -> Path:
    return link(path, target.parent) / "precious"


def by_own_link(path: Path, target: Path) -> Path:
    mine = path.parent / "mine"
    mine.symlink_to(link(path, target))
    return mine


def write_x(dest: str) -> None:
    write_whole(dest, "x")


PLANTS = (link, pipe, on_the_way, by_own_link)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_file_is_not_led_elsewhere(place: Path, victim: Path, plant: object) -> None:
    assert callable(plant)
    dest = str(plant(place / "file", victim / "precious"))
    before = planting.state(victim)
    for attempt in (check_file, write_x):
        with pytest.raises(UsageError) as caught:
            attempt(dest)
        assert f"uid {STRANGER}" in caught.value.message
        assert caught.value.hints
    with pytest.raises(UsageError), whole_file(dest):
        pass
    assert planting.state(victim) == before


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="has no /dev/shm")
def test_a_pipe_in_shared_memory_is_not_one_that_we_were_given(victim: Path) -> None:
    """Everybody may write there, though it lies where /dev/stdout does."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        dest = str(pipe(Path(made) / "file", victim))
        for attempt in (check_file, write_x):
            with pytest.raises(UsageError, match=f"is a pipe of uid {STRANGER}"):
                attempt(dest)
    reader, writer = os.pipe()
    try:
        for given in (f"/dev/fd/{writer}", f"/proc/self/fd/{writer}"):
            check_file(given)
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("inside", ["", "blobs", "blobs/sha256"])
def test_a_layout_is_not_led_elsewhere(place: Path, victim: Path, inside: str) -> None:
    dest = place / "layout"
    planted = dest / inside
    planted.parent.mkdir(parents=True, exist_ok=True)
    link(planted, victim)
    with pytest.raises(UsageError, match=f"is a link of uid {STRANGER}"):
        check_directory(str(dest), "output", is_layout=True)


def test_links_of_ones_own_lead_on(place: Path, tmp_path: Path) -> None:
    (place / "file").symlink_to(tmp_path / "there")
    write_whole(str(place / "file"), "x")
    assert (tmp_path / "there").read_text() == "x"


def test_a_strangers_file_is_replaced_and_not_written_to(place: Path, tmp_path: Path) -> None:
    """A stranger who has the file open reads nothing of ours."""
    (place / "file").write_text("theirs")
    os.chown(place / "file", STRANGER, STRANGER)
    with open(place / "file", encoding="utf-8") as theirs:
        write_whole(str(place / "file"), "ours")
        assert theirs.read() == "theirs"
    assert (place / "file").stat().st_uid == 0


def test_another_name_of_a_file_is_replaced_and_not_written_to(place: Path, victim: Path) -> None:
    os.link(victim / "precious", place / "file")
    write_whole(str(place / "file"), "ours")
    assert (victim / "precious").read_text() == "precious"


def test_standard_output_and_pipes_of_shells_are_ours(tmp_path: Path) -> None:
    read, written = os.pipe()
    os.fchown(written, STRANGER, STRANGER)  # as after su
    write_whole(f"/dev/fd/{written}", "x")
    assert os.read(read, 9) == b"x"
    os.close(read)
    os.close(written)


CASES = (
    (("--iidfile", "{file}"), "file"),
    (("--metadata-file", "{file}"), "file"),
    (("-o", "type=tar,dest={file}"), "file"),
    (("-o", "type=oci,dest={file}"), "file"),
    (("-o", "type=docker,dest={file}"), "file"),
    (("-o", "type=oci,tar=false,dest={folder}"), "blobs"),
    (("-o", "type=local,dest={folder}"), ""),
    (("--cache-to", "type=local,dest={folder}"), "blobs"),
)


@pytest.mark.slow
@pytest.mark.sandbox
@pytest.mark.parametrize(("words", "planted"), CASES, ids=lambda one: str(one))
def test_no_build_of_root_writes_through_a_strangers_link(
    tmp_path: Path, place: Path, victim: Path, words: tuple[str, ...], planted: str
) -> None:
    folder = place / "folder"
    if planted == "file":
        link(place / "file", victim / "precious")
    elif planted:
        folder.mkdir()
        link(folder / planted, victim)
    else:
        link(folder, victim)
    before = planting.state(victim)
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY Dockerfile /\n")
    filled = [word.format(file=place / "file", folder=folder) for word in words]
    done = Pybuild(tmp_path / "store")("build", *filled, context, code=None)
    assert done.code != 0
    assert f"is a link of uid {STRANGER}" in done.err
    assert "hint: remove that link" in done.err
    assert planting.state(victim) == before


@pytest.mark.slow
@pytest.mark.sandbox
@pytest.mark.parametrize("mode", ["", ",mode=delete"])
def test_a_tree_follows_no_link_in_its_destination(
    tmp_path: Path, place: Path, victim: Path, mode: str
) -> None:
    """As a directory, as a file, and as what is to be removed."""
    out = place / "out"
    out.mkdir()
    link(out / "etc", victim)
    link(out / "file", victim / "precious")
    link(out / "extra", victim)
    before = planting.state(victim)
    text = "FROM scratch\nCOPY Dockerfile /etc/precious\nCOPY Dockerfile /file\n"
    context = write(tmp_path / "ctx", Dockerfile=text)
    allowed = ("--allow", "buildx.local.delete")
    Pybuild(tmp_path / "store")("build", *allowed, "-o", f"type=local,dest={out}{mode}", context)
    assert planting.state(victim) == before
    assert (out / "etc").is_dir()
    assert not (out / "etc").is_symlink()
    assert (out / "etc/precious").read_text() == text


@pytest.mark.slow
@pytest.mark.sandbox
def test_the_fully_cached_build_writes_no_other_way(
    tmp_path: Path, place: Path, victim: Path
) -> None:
    pybuild = Pybuild(tmp_path / "store")
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY Dockerfile /\n")
    named = ("--iidfile", str(place / "id"), "--metadata-file", str(place / "facts"))
    pybuild("build", *named, context)
    assert (place / "id").read_text().startswith("sha256:")
    json.loads((place / "facts").read_text())
    (place / "id").unlink()
    link(place / "id", victim / "precious")
    before = planting.state(victim)
    assert f"is a link of uid {STRANGER}" in pybuild("build", *named, context, code=2).err
    assert planting.state(victim) == before


@pytest.mark.slow
@pytest.mark.sandbox
def test_save_goes_where_it_was_sent(tmp_path: Path, place: Path, victim: Path) -> None:
    pybuild = Pybuild(tmp_path / "store")
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY Dockerfile /\n")
    pybuild("build", "-t", "app", context)
    link(place / "app.tar", victim / "precious")
    before = planting.state(victim)
    said = pybuild("save", "app", "-o", place / "app.tar", code=2).err
    assert f"is a link of uid {STRANGER}" in said
    assert planting.state(victim) == before
