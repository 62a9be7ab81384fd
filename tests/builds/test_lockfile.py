"""Lock files: what they say, and the rules that hold a build to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.builds.lockfile import Lock, changes, lock_path, locked_policies, read_lock
from pybuild.frontend.lowering.policies import ruled, ruled_image
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError, UserError
from pybuild.model.ops import GitSource, HttpSource
from pybuild.model.platform import Platform
from pybuild.model.policy import Policies
from pybuild.model.reference import Reference

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")
COMMIT = "0123456789" * 4
AMD64 = Platform("linux", "amd64")
LOCK = Lock(
    {
        "https://files.example/a.tgz": str(ONE),
        "docker-image://docker.io/library/debian:12": str(ONE),
        f"docker-image://docker.io/library/pinned:1@{TWO}": str(TWO),
        "git://git.example/a.git#main:sub": COMMIT,
        "git://git.example/b.git": f"ssh://git@git.example/b.git#{COMMIT}",
        f"git://git.example/c.git#{COMMIT}": COMMIT,
    }
)
RULES = Policies((LOCK.policy("pybuild.lock"),))


def image(text: str) -> str:
    return str(ruled_image(RULES, Reference.parse(text), AMD64))


def test_the_file_is_sorted_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "pybuild.lock"
    path.write_text(LOCK.text())
    assert read_lock(str(path)) == LOCK
    lines = [line.strip() for line in LOCK.text().splitlines() if "://" in line]
    assert lines == sorted(lines)


def test_an_image_is_the_one_that_is_locked() -> None:
    assert image("debian:12") == f"docker.io/library/debian:12@{ONE}"
    assert image(f"debian:12@{ONE}") == f"docker.io/library/debian:12@{ONE}"
    assert image(f"pinned:1@{TWO}") == f"docker.io/library/pinned:1@{TWO}"


@pytest.mark.parametrize(
    "text", ["debian:13", "alpine", f"debian:12@{TWO}", "pinned:1", f"pinned:1@{ONE}"]
)
def test_other_images_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not in pybuild.lock, or is another one there") as error:
        image(text)
    assert error.value.hints[0].startswith("pybuild lock writes it anew")


def test_a_file_gets_the_checksum_that_is_locked() -> None:
    source = HttpSource(url="https://files.example/a.tgz", filename="a.tgz")
    taken = ruled(RULES, source)
    assert isinstance(taken, HttpSource) and taken.checksum == ONE
    assert ruled(RULES, taken) == taken
    for other in (
        HttpSource(url="https://files.example/b.tgz"),
        HttpSource(url="https://files.example/a.tgz", checksum=TWO),
    ):
        with pytest.raises(UserError, match="pybuild.lock"):
            ruled(RULES, other)


def test_a_repository_is_taken_at_the_commit_that_is_locked() -> None:
    source = GitSource(remote="https://git.example/a.git", ref="main", subdir="sub")
    taken = ruled(RULES, source)
    assert taken == GitSource(remote="https://git.example/a.git", ref=COMMIT, subdir="sub")
    assert ruled(RULES, taken) == taken
    other = GitSource(remote="ssh://git@git.example/b.git")
    assert ruled(RULES, other) == GitSource(remote="ssh://git@git.example/b.git", ref=COMMIT)
    pinned = GitSource(remote="https://git.example/c.git", ref=COMMIT)
    assert ruled(RULES, pinned) == pinned
    with pytest.raises(UserError, match=r"pybuild\.lock"):
        ruled(RULES, GitSource(remote="https://git.example/a.git", ref="next", subdir="sub"))


def test_changes_name_each_source_once() -> None:
    before = Lock({"a": "1", "b": "1", "c": "1"})
    assert changes(before, Lock({"b": "2", "c": "1", "d": "1"})) == [
        "- a 1",
        "~ b 1 -> 2",
        "+ d 1",
    ]
    assert changes(before, before) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", ""),
        ("[]", "version None"),
        ('{"version": 2, "sources": {}}', "version 2"),
        ('{"version": 1, "sources": {"local://a": "x"}}', "no source that can be locked"),
        ('{"version": 1, "sources": {"https://a": "sha256:12"}}', "is no digest"),
        ('{"version": 1, "sources": {"https://a": 3}}', "is no digest"),
        ('{"version": 1, "sources": {"git://a": "main"}}', "is no digest"),
        (f'{{"version": 1, "sources": {{"docker-image://A:B:C": "{ONE}"}}}}', "must be lowercase"),
        ("[" * 100_000, ""),
    ],
)
def test_files_that_are_no_locks_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "pybuild.lock"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"^lock file {path}: .*{reason}"):
        read_lock(str(path))


def test_a_lock_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    assert lock_path(str(tmp_path), "") == str(tmp_path / "pybuild.lock")
    assert lock_path("https://git.example/a.git", "") == "pybuild.lock"
    assert lock_path(str(tmp_path), "other") == "other"
    with pytest.raises(UsageError, match="there is no lock file") as error:
        locked_policies(str(tmp_path), "")
    assert error.value.hints == ("pybuild lock writes it",)
    with pytest.raises(UsageError, match="one of them"):
        locked_policies(str(tmp_path), "", "policy.json")
