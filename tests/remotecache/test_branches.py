"""Names of a cache in a checkout, and in the jobs of CI services [CCH]."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pybuild.model.reference import Reference
from pybuild.remotecache.branches import cache_tags, tag_of, with_branch
from tests.needs import need


def git(where: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(
        ["git", *identity, *words], cwd=where, check=True, capture_output=True, timeout=60
    )


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    need("git")
    where = tmp_path / "upstream"
    where.mkdir()
    git(where, "init", "-q", "-b", "trunk")
    git(where, "commit", "-q", "--allow-empty", "-m", "x")
    return where


def test_a_clone_knows_its_branch_and_the_one_it_came_from(upstream: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(upstream), "clone")
    clone = tmp_path / "clone"
    assert cache_tags(str(clone), {}) == ("trunk",)
    git(clone, "checkout", "-q", "-b", "feature/login")
    (clone / "below").mkdir()
    assert cache_tags(str(clone / "below"), {}) == ("feature-login", "trunk")
    git(clone, "worktree", "add", "-q", "-b", "other", str(tmp_path / "tree"))
    assert cache_tags(str(tmp_path / "tree"), {}) == ("other", "trunk")


def test_a_repository_of_its_own_has_the_usual_defaults(upstream: Path) -> None:
    assert cache_tags(str(upstream), {}) == ("trunk", "main", "master")


def test_without_a_branch_it_is_the_latest(upstream: Path, tmp_path: Path) -> None:
    assert cache_tags(str(tmp_path), {}) == ("latest",)
    git(upstream, "checkout", "-q", "--detach")
    assert cache_tags(str(upstream), {}) == ("latest",)
    broken = tmp_path / "broken/.git"
    broken.mkdir(parents=True)
    (broken / "HEAD").write_bytes(b"\xff\0" * 9000)
    assert cache_tags(str(broken.parent), {}) == ("latest",)


@pytest.mark.parametrize(
    ("environ", "tags"),
    [
        ({"GITHUB_REF": "refs/heads/a", "GITHUB_REF_NAME": "a"}, ("a", "main", "master")),
        (
            {
                "GITHUB_REF": "refs/pull/12/merge",
                "GITHUB_REF_NAME": "12/merge",
                "GITHUB_HEAD_REF": "a",
                "GITHUB_BASE_REF": "dev",
            },
            ("pr-12", "a", "dev", "main", "master"),
        ),
        (
            {"CI_COMMIT_REF_NAME": "a", "CI_COMMIT_BRANCH": "a", "CI_DEFAULT_BRANCH": "trunk"},
            ("a", "trunk"),
        ),
        (
            {
                "CI_MERGE_REQUEST_IID": "3",
                "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "a",
                "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "trunk",
                "CI_DEFAULT_BRANCH": "trunk",
            },
            ("pr-3", "a", "trunk"),
        ),
        ({"BUILDKITE_BRANCH": "a", "BUILDKITE_PULL_REQUEST": "false"}, ("a", "main", "master")),
        (
            {
                "BUILD_SOURCEBRANCH": "refs/pull/9/merge",
                "SYSTEM_PULLREQUEST_PULLREQUESTNUMBER": "9",
                "SYSTEM_PULLREQUEST_SOURCEBRANCH": "refs/heads/a/b",
                "SYSTEM_PULLREQUEST_TARGETBRANCH": "refs/heads/main",
            },
            ("pr-9", "a-b", "main", "master"),
        ),
        (
            {"BRANCH_NAME": "PR-4", "CHANGE_ID": "4", "CHANGE_BRANCH": "a"},
            ("pr-4", "a", "main", "master"),
        ),
    ],
)
def test_services_say_it_in_variables(
    environ: dict[str, str], tags: tuple[str, ...], tmp_path: Path
) -> None:
    assert cache_tags(str(tmp_path), environ) == tags


def test_a_merge_request_never_writes_what_others_start_from(tmp_path: Path) -> None:
    """A stranger's fork may call its branch as the target is called."""
    environ = {
        "GITHUB_REF": "refs/pull/12/merge",
        "GITHUB_HEAD_REF": "main",
        "GITHUB_BASE_REF": "main",
    }
    assert cache_tags(str(tmp_path), environ)[0] == "pr-12"


@pytest.mark.parametrize("name", ["a/b", "ü", "-x", ".x", "x" * 300, "a b\n", "@{-1}"])
def test_any_branch_is_a_tag(name: str) -> None:
    assert Reference.parse(f"h.example/p:{tag_of(name)}").tag == tag_of(name)


def test_long_branches_stay_apart() -> None:
    assert tag_of("x" * 200 + "a") != tag_of("x" * 200 + "b")


def test_a_text_without_the_place_stays_as_it_is() -> None:
    assert with_branch("a:b", ["x", "y"]) == ("a:b",)
    assert with_branch("a:{branch}-z", ["x", "y"]) == ("a:x-z", "a:y-z")
