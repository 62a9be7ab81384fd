"""A copy in which little changed is the earlier one and a patch; its layer is as if there were none.

Each case builds twice on one store, with an edit between, and once on an empty store: the layers must
be the same to the byte.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pybuild.cache.disk.extent import measure
from tests.executor.plain_user import UID, PlainUser, need_packages, need_sub_ids, plain_user
from tests.harness import Pybuild, remove_store

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

FILES = 320  # as many as are worth it
OLD = 1_000_000_000


def make_tree(context: Path, dockerfile: str, files: int = FILES) -> Path:
    for number in range(files):
        path = context / f"src/d{number % 8}/e/f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n")
    (context / "src/link").symlink_to("d0/e/f0")
    (context / "src/empty").mkdir()
    for folder, _, names in os.walk(context / "src"):
        for name in names:
            os.utime(Path(folder, name), (OLD, OLD), follow_symlinks=False)
        os.utime(folder, (OLD, OLD))
    (context / "Dockerfile").write_text(dockerfile)
    return context


def layers(store: Path, ref: str) -> list[str]:
    """The digests of an image's layers."""
    for entry in json.loads((store / "index.json").read_text())["manifests"]:
        if ref in entry.get("annotations", {}).get("io.containerd.image.name", ""):
            digest = entry["digest"].partition(":")[2]
            manifest = json.loads((store / "blobs/sha256" / digest).read_text())
            return [layer["digest"] for layer in manifest["layers"]]
    raise AssertionError(f"no image {ref}")


def names(store: Path, layer: str) -> list[str]:
    """Return the entries of a layer."""
    with tarfile.open(store / "blobs/sha256" / layer.partition(":")[2]) as tar:
        return tar.getnames()


def patches(store: Path) -> list[str]:
    return sorted(name for name in os.listdir(store / "snapshots") if ".over." in name)


class Case:
    """Builds a context again and again on one store, and on empty ones."""

    def __init__(self, tmp_path: Path, pybuild: Pybuild, dockerfile: str) -> None:
        self.tmp_path = tmp_path
        self.pybuild = pybuild
        self.context = make_tree(tmp_path / "context", dockerfile)
        self.src = self.context / "src"
        self._fresh = 0
        self.empty = tmp_path / "empty"
        if pybuild.store.is_dir():  # it has a base image
            shutil.copytree(pybuild.store, self.empty, symlinks=True)
        self.build()

    def build(self) -> list[str]:
        self.pybuild("build", "-t", "it", self.context)
        return layers(self.pybuild.store, "it")

    def afresh(self) -> list[str]:
        self._fresh += 1
        store = self.tmp_path / f"fresh{self._fresh}"
        if self.empty.is_dir():
            shutil.copytree(self.empty, store, symlinks=True)
        Pybuild(store)("build", "-t", "it", self.context)
        return layers(store, "it")


Edit = Callable[[Path], object]


def _touch_many(src: Path) -> None:
    for number in range(0, FILES, 8):
        os.utime(src / f"d0/e/f{number}", (OLD + 5, OLD + 5))


def _replace_by_link(src: Path) -> None:
    (src / "d1/e/f1").unlink()
    (src / "d1/e/f1").symlink_to("f9")


def _replace_link(src: Path) -> None:
    (src / "link").unlink()
    (src / "link").write_text("no link\n")


def _add(src: Path) -> None:
    (src / "new/deep/er").mkdir(parents=True)
    (src / "new/deep/file").write_text("new")
    (src / "new/l").symlink_to("deep")
    (src / "d2/e/added").write_bytes(b"")


def _retarget(src: Path) -> None:
    (src / "link").unlink()
    (src / "link").symlink_to("elsewhere")


def _odd_names(src: Path) -> None:
    os.mkdir(os.fsencode(src) + b"/\xff\n")
    Path(os.fsdecode(os.fsencode(src) + b"/\xff\n/a\\b c")).write_text("odd")


def _all(*edits: Edit) -> Edit:
    def edit(src: Path) -> None:
        for one in edits:
            one(src)

    return edit


def _write(src: Path) -> None:
    (src / "d3/e/f3").write_text("changed")


PATCHED: dict[str, Edit] = {
    "content": _write,
    "same size": lambda src: (src / "d3/e/f3").write_text("X\n"),
    "mode": lambda src: (src / "d3/e/f3").chmod(0o4711),
    "mode of a directory": _all(lambda src: (src / "d3").chmod(0o700), _add),
    "times with another": _all(_touch_many, _write),
    "times of directories": _all(lambda src: os.utime(src / "d4", (7, 7)), _retarget),
    "file to link": _replace_by_link,
    "link to file": _replace_link,
    "link to elsewhere": _retarget,
    "additions": _add,
    "odd names": _odd_names,
    "large file": lambda src: (src / "d0/large").write_bytes(os.urandom(300_000)),
}


def _file_to_directory(src: Path) -> None:
    (src / "d5/e/f5").unlink()
    (src / "d5/e/f5").mkdir()


def _directory_to_file(src: Path) -> None:
    (src / "empty").rmdir()
    (src / "empty").write_text("file")


def _hard_link(src: Path) -> None:
    os.link(src / "d0/e/f0", src / "d0/e/twin")


def _pipe(src: Path) -> None:
    os.mkfifo(src / "pipe")


def _most(src: Path) -> None:
    for number in range(FILES // 2):
        (src / f"d{number % 8}/e/f{number}").write_text("all of them")


WHOLE: dict[str, Edit] = {
    "removal": lambda src: (src / "d5/e/f5").unlink(),
    "renaming": lambda src: (src / "d5/e/f5").rename(src / "d5/e/other"),
    "file to directory": _file_to_directory,
    "directory to file": _directory_to_file,
    "hard link": _hard_link,
    "pipe": _pipe,
    "most of it": _most,
}

SCRATCH = "FROM scratch\nCOPY src/ /src/\n"


@pytest.mark.parametrize("name", PATCHED)
def test_layer_of_a_patched_copy_is_that_of_a_whole_one(
    tmp_path: Path, pybuild: Pybuild, name: str
) -> None:
    case = Case(tmp_path, pybuild, SCRATCH)
    PATCHED[name](case.src)
    assert case.build() == case.afresh()
    (patch,) = patches(pybuild.store)
    held = sum(len(files) for _, _, files in os.walk(pybuild.store / "snapshots" / patch / "fs"))
    assert held < FILES // 4


@pytest.mark.parametrize("name", WHOLE)
def test_what_a_patch_cannot_say_is_copied_whole(
    tmp_path: Path, pybuild: Pybuild, name: str
) -> None:
    case = Case(tmp_path, pybuild, SCRATCH)
    WHOLE[name](case.src)
    assert case.build() == case.afresh()
    assert patches(pybuild.store) == []


@pytest.mark.parametrize(
    "copy",
    [
        "COPY src/ /src/",
        "COPY --chown=1000:7 --chmod=0750 src /opt",
        "COPY --chown=app --chmod=go-r src/ /",
        "COPY --link src/ /linked/",
        "COPY . /root/",
    ],
)
def test_options_and_steps_on_top(tmp_path: Path, pybuild: Pybuild, base: str, copy: str) -> None:
    text = f"FROM {base}\n{copy}\nRUN echo /*/d3/e/f3 > /seen\n"
    case = Case(tmp_path, pybuild, text)
    for word in ("changed", "again"):
        (case.src / "d3/e/f3").write_text(word)
        (case.src / f"d2/{word}").write_text("more")
        ours, fresh = case.build(), case.afresh()
        # What a RUN writes has the time of its making.
        assert ours[:-1] == fresh[:-1]
        case.pybuild("run", "it", "sh", "-c", f"grep -rq {word} /src /opt /d3 /linked /root")
    assert len(patches(pybuild.store)) == 2


@pytest.mark.parametrize("onto", ["scratch", "base"])
def test_directories_on_the_way_are_as_old_as_the_patch(
    tmp_path: Path, pybuild: Pybuild, base: str, onto: str
) -> None:
    """[REP-3] An epoch between the earlier copy and now is the time of both, patched or not."""
    case = Case(tmp_path, pybuild, f"FROM {onto}\nCOPY src/ /root/a/b/\n")
    for delta in (pybuild.store / "snapshots").iterdir():  # as if that had been long ago
        if (delta / "fs/root/a").is_dir():
            os.utime(delta / "fs/root/a", (OLD, OLD))
            os.utime(delta / "fs/root", (OLD, OLD))
    (case.src / "d3/e/f3").write_text("changed")
    words = ["--build-arg", f"SOURCE_DATE_EPOCH={OLD + 1000}", "-t", "it"]
    words += ["-o", "type=image,rewrite-timestamp=true", str(case.context)]
    shutil.copytree(case.empty, tmp_path / "fresh", symlinks=True)
    found: list[list[str]] = []
    for run in (pybuild, Pybuild(tmp_path / "fresh")):
        run("build", *words)
        found.append(layers(run.store, "it"))
    assert found[0] == found[1]
    assert len(patches(pybuild.store)) == 1


def test_what_the_base_has_too_is_in_no_layer_twice(tmp_path: Path, pybuild: Pybuild) -> None:
    """A changed file may become equal to the base's, and then leaves the layer: no patch could express that."""
    base = tmp_path / "context/base/d3/e/f3"
    base.parent.mkdir(parents=True)
    base.write_text("as the base has it")
    os.utime(base, (OLD, OLD))
    text = "FROM scratch\nCOPY src/d0 /d0\nCOPY base /\nCOPY src/ /\n"
    case = Case(tmp_path, pybuild, text)
    (case.src / "d4/e/f4").write_text("changed")
    assert case.build() == case.afresh()
    assert len(patches(pybuild.store)) == 1
    for word in ("as the base has it", "again another"):
        (case.src / "d3/e/f3").write_text(word)
        os.utime(case.src / "d3/e/f3", (OLD, OLD))
        assert case.build() == case.afresh()
        assert len(patches(pybuild.store)) == 1
    first, _, last = (names(pybuild.store, digest) for digest in case.build())
    assert "d0/e/f0" in first
    assert not any(name.startswith("d0/e/f") for name in last)


def test_a_context_that_steps_mount_is_patched_too(
    tmp_path: Path, pybuild: Pybuild, base: str
) -> None:
    text = f"FROM {base}\nRUN --mount=type=bind,target=/ctx cat /ctx/src/d3/e/f3 /ctx/src/d0/e/f0 > /seen\n"
    case = Case(tmp_path, pybuild, text)
    for word in ("changed", "again"):
        (case.src / "d3/e/f3").write_text(word)
        case.build()
        assert pybuild("run", "it", "cat", "/seen").out == f"{word}0\n"
    assert len(patches(pybuild.store)) == 2


def test_ignored_files_are_no_part_of_it(tmp_path: Path, pybuild: Pybuild) -> None:
    case = Case(tmp_path, pybuild, SCRATCH)
    (case.context / ".dockerignore").write_text("src/d7\n!src/d7/e/f7\n")
    case.build()
    assert patches(pybuild.store) == []  # what an ignore file says belongs to the copy's place
    (case.src / "d7/e/f15").write_text("hidden")
    (case.src / "d1/e/f1").write_text("seen")
    assert case.build() == case.afresh()
    assert len(patches(pybuild.store)) == 1


def test_excluded_files_are_not_copied(tmp_path: Path, pybuild: Pybuild) -> None:
    text = "# syntax=docker/dockerfile:1-labs\nFROM scratch\nCOPY --exclude=**/f1* src/ /src/\n"
    case = Case(tmp_path, pybuild, text)
    (case.src / "d3/e/f3").write_text("changed")
    assert case.build() == case.afresh()


@pytest.mark.parametrize("words", ["--parents src /", "--exclude=**/f1* src /out/"])
def test_other_choices_of_the_same_directory_are_not_taken_for_it(
    tmp_path: Path, pybuild: Pybuild, words: str
) -> None:
    """Copies of one directory with other choices of files in it are no earlier versions of each other."""
    text = f"# syntax=docker/dockerfile:1-labs\nFROM scratch\nCOPY {words}\nCOPY src /last/\n"
    case = Case(tmp_path, pybuild, text)
    (case.src / "d3/e/f3").write_text("changed")
    assert case.build() == case.afresh()
    # The last one lies on another base now.
    assert patches(pybuild.store) == []


def test_another_base_is_another_place(tmp_path: Path, pybuild: Pybuild, base: str) -> None:
    text = f"FROM {base}\nARG N=0\nRUN mkdir -p /src && echo $N > /src/own\nCOPY src/ /src/\n"
    case = Case(tmp_path, pybuild, text)
    pybuild("build", "-t", "it", "--build-arg", "N=1", case.context)
    assert patches(pybuild.store) == []
    (case.src / "d3/e/f3").write_text("changed")
    case.build()
    pybuild(
        "run", "it", "sh", "-c", "test $(cat /src/own) = 0 && test $(cat /src/d3/e/f3) = changed"
    )
    assert len(patches(pybuild.store)) == 1


def test_a_patch_goes_before_what_it_changes(tmp_path: Path, pybuild: Pybuild) -> None:
    case = Case(tmp_path, pybuild, SCRATCH)
    (case.src / "d3/e/f3").write_text("changed")
    digests = case.build()
    (patch,) = patches(pybuild.store)
    whole = patch.partition(".over.")[2]
    # The first result has lost its name, but what it is made of is still needed.
    listed = pybuild("du").out
    assert patch[:12] in listed and whole[:12] in listed
    pybuild("prune", "--force", "--all")
    assert patches(pybuild.store) == [] and os.listdir(pybuild.store / "snapshots") == []
    (case.src / "d3/e/f3").write_text("once more")
    assert case.build() == case.afresh() != digests
    assert patches(pybuild.store) == []


def test_patch_without_what_it_changes_is_missed_and_made_again(
    tmp_path: Path, pybuild: Pybuild
) -> None:
    case = Case(tmp_path, pybuild, SCRATCH)
    (case.src / "d3/e/f3").write_text("changed")
    case.build()
    (patch,) = patches(pybuild.store)
    remove_store(pybuild.store / "snapshots" / patch.partition(".over.")[2])
    for entry in (pybuild.store / "memo").iterdir():
        entry.unlink()
    done = pybuild("build", "-o", f"type=local,dest={tmp_path / 'out'}", case.context)
    assert "Traceback" not in done.err
    assert (tmp_path / "out/src/d3/e/f3").read_text() == "changed"
    assert len(list((tmp_path / "out/src/d0/e").iterdir())) == FILES // 8


def test_a_carried_cache_has_the_whole_layer(tmp_path: Path, pybuild: Pybuild, base: str) -> None:
    case = Case(tmp_path, pybuild, f"FROM {base}\nCOPY src/ /src/\nRUN cat /src/d3/e/f3 > /seen\n")
    (case.src / "d3/e/f3").write_text("changed")
    cache = tmp_path / "cache"
    pybuild("build", "-t", "it", f"--cache-to=type=local,mode=max,dest={cache}", case.context)
    assert len(patches(pybuild.store)) == 1
    other = Pybuild(tmp_path / "other")
    shutil.copytree(case.empty, other.store, symlinks=True)
    (case.src / "d0/e/f0").write_text("and again")
    words = (
        "build",
        f"--cache-from=type=local,src={cache}",
        "-o",
        f"type=local,dest={tmp_path}/out",
    )
    other(*words, case.context)
    assert (tmp_path / "out/src/d0/e/f0").read_text() == "and again"
    (case.src / "d0/e/f0").write_text("0\n")
    os.utime(case.src / "d0/e/f0", (OLD, OLD))
    done = other(*words, "--progress=plain", case.context)
    assert "CACHED" in done.err
    assert (tmp_path / "out/seen").read_text() == "changed"
    assert len(list((tmp_path / "out/src/d0/e").iterdir())) == FILES // 8


def test_patch_takes_the_space_of_its_changes(tmp_path: Path, pybuild: Pybuild) -> None:
    case = Case(tmp_path, pybuild, SCRATCH)
    (case.src / "d3/e/f3").write_text("changed")
    case.build()
    (patch,) = patches(pybuild.store)
    sizes = {
        name: measure(str(pybuild.store / "snapshots" / name)) for name in (patch, patch[-32:])
    }
    assert sizes[patch] < sizes[patch[-32:]] // 10


@pytest.fixture(scope="module")
def user() -> Iterator[PlainUser]:
    with plain_user() as made:
        need_packages(made)
        yield made


_TWICE = """
import os, runpy, subprocess, sys
store, context = sys.argv[1:]
env = {**os.environ, "HOME": store, "PYBUILD_ROOT": store, "PYBUILD_HOST": "local"}
for text in ("one", "two"):
    with open(context + "/src/d3/e/f3", "w") as file:
        file.write(text)
    os.utime(context + "/src/d3/e/f3", (1000, 1000))
    done = subprocess.run([sys.executable, "-m", "pybuild", "build", "-t", "it", context], env=env)
    assert done.returncode == 0
"""


def _twice(
    user: PlainUser,
    name: str,
    *,
    root: bool = False,
    jailed: bool = False,
    sub_ids: bool = False,
) -> tuple[list[str], int]:
    """Build, change a file, build again; return the layers and the number of patches."""
    here = user.place / name
    context = make_tree(here / "context", SCRATCH)
    (here / "store").mkdir()
    for path in (here, *here.rglob("*")):
        if not root:
            os.chown(path, UID, UID, follow_symlinks=False)
    user.python(
        _TWICE, str(here / "store"), str(context), root=root, jailed=jailed, sub_ids=sub_ids
    )
    return layers(here / "store", "it"), len(patches(here / "store"))


def test_layers_are_the_same_whoever_builds(user: PlainUser) -> None:
    """With one id owners are notes, and in a container there is no overlay: no patches there."""
    need_sub_ids()
    root, patched = _twice(user, "root", root=True)
    assert patched == 1
    assert _twice(user, "range", sub_ids=True) == (root, 1)
    assert _twice(user, "one") == (root, 0)
    assert _twice(user, "jailed", root=True, jailed=True) == (root, 0)
