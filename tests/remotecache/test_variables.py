"""Every variable of a CI service that names a branch, and what git's own files say without one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pybuild.remotecache.branches import cache_tags, tag_of


@pytest.mark.parametrize(
    "name",
    ["CI_MERGE_REQUEST_IID", "CHANGE_ID", "BUILDKITE_PULL_REQUEST"]
    + ["SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "BITBUCKET_PR_ID", "DRONE_PULL_REQUEST"]
    + ["CI_COMMIT_PULL_REQUEST"],
)
def test_a_merge_request_has_a_number(name: str, tmp_path: Path) -> None:
    assert cache_tags(str(tmp_path), {name: "7"}) == ("pr-7", "main", "master")


@pytest.mark.parametrize(
    "name",
    ["GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"]
    + ["CI_COMMIT_REF_NAME", "CHANGE_BRANCH", "BRANCH_NAME", "BUILDKITE_BRANCH", "CIRCLE_BRANCH"]
    + ["SYSTEM_PULLREQUEST_SOURCEBRANCH", "BUILD_SOURCEBRANCH", "BITBUCKET_BRANCH"]
    + ["DRONE_SOURCE_BRANCH", "CI_COMMIT_SOURCE_BRANCH", "CI_COMMIT_BRANCH"],
)
def test_a_branch_is_built(name: str, tmp_path: Path) -> None:
    assert cache_tags(str(tmp_path), {name: "refs/heads/a"}) == ("a", "main", "master")
    for none in ("", "false", "refs/pull/1/merge"):
        assert cache_tags(str(tmp_path), {name: none}) == ("latest",)


@pytest.mark.parametrize(
    "name",
    ["GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "CHANGE_TARGET"]
    + ["BUILDKITE_PULL_REQUEST_BASE_BRANCH", "SYSTEM_PULLREQUEST_TARGETBRANCH"]
    + ["BITBUCKET_PR_DESTINATION_BRANCH", "DRONE_TARGET_BRANCH", "CI_COMMIT_TARGET_BRANCH"],
)
def test_a_branch_has_a_target(name: str, tmp_path: Path) -> None:
    environ = {"BRANCH_NAME": "a", name: "t"}
    assert cache_tags(str(tmp_path), environ) == ("a", "t", "main", "master")


@pytest.mark.parametrize(
    "name", ["CI_DEFAULT_BRANCH", "BUILDKITE_PIPELINE_DEFAULT_BRANCH", "DRONE_REPO_BRANCH"]
)
def test_a_project_has_a_default(name: str, tmp_path: Path) -> None:
    assert cache_tags(str(tmp_path), {"BRANCH_NAME": "a", name: "d"}) == ("a", "d")
    assert cache_tags(str(tmp_path), {"BRANCH_NAME": "d", name: "d"}) == ("d",)
    assert cache_tags(str(tmp_path), {name: "d"}) == ("latest",)


def test_a_number_of_github_is_in_its_ref(tmp_path: Path) -> None:
    assert cache_tags(str(tmp_path), {"GITHUB_REF": "refs/pull/12/merge"})[0] == "pr-12"
    for other in ("refs/pull/x/merge", "refs/pull/12", "x/refs/pull/12/merge"):
        assert cache_tags(str(tmp_path), {"GITHUB_REF": other}) == ("latest",)


class Checkout:
    """The files that git keeps of a checkout."""

    def __init__(self, path: Path, head: str) -> None:
        self.path, self.git = path, path / ".git"
        self.git.mkdir(parents=True)
        (self.git / "HEAD").write_text(head)

    def tags(self, below: str = "", **environ: str) -> tuple[str, ...]:
        return cache_tags(str(self.path / below), environ)

    def default(self, text: str) -> None:
        head = self.git / "refs/remotes/origin/HEAD"
        head.parent.mkdir(parents=True)
        head.write_text(text)


def test_a_checkout_has_a_branch_and_a_default(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "c", "ref: refs/heads/a/b\n")
    assert checkout.tags() == checkout.tags("deep/below") == ("a-b", "main", "master")
    checkout.default("ref: refs/remotes/origin/trunk\n")
    assert checkout.tags() == ("a-b", "trunk")
    assert checkout.tags(BRANCH_NAME="x") == ("x", "trunk")
    assert checkout.tags(DRONE_REPO_BRANCH="d") == ("a-b", "d")


@pytest.mark.parametrize("head", ["f" * 40, "ref: refs/tags/x", "ref: refs/heads/.invalid", ""])
def test_a_head_that_is_no_branch_names_none(head: str, tmp_path: Path) -> None:
    assert Checkout(tmp_path / "c", head).tags() == ("latest",)


def test_a_worktree_shares_the_default_of_its_repository(tmp_path: Path) -> None:
    main = Checkout(tmp_path / "main", "ref: refs/heads/a")
    main.default("ref: refs/remotes/origin/trunk")
    state = main.git / "worktrees/w"
    state.mkdir(parents=True)
    (state / "HEAD").write_text("ref: refs/heads/w\n")
    (state / "commondir").write_text("../..\n")
    tree = tmp_path / "w"
    tree.mkdir()
    (tree / ".git").write_text("gitdir: ../main/.git/worktrees/w\n")
    assert cache_tags(str(tree), {}) == ("w", "trunk")
    (tree / ".git").write_text("something else\n")
    assert cache_tags(str(tree), {}) == ("latest",)


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("a", "a"),
        ("a.b_c-1", "a.b_c-1"),
        ("a/b c", "a-b-c"),
        ("-a", "_-a"),
        (".a", "_.a"),
        ("_a", "_a"),
        ("é", "_-"),
        ("x" * 128, "x" * 128),
        ("x" * 129, "x" * 119 + "-" + hashlib.sha256(b"x" * 129).hexdigest()[:8]),
    ],
)
def test_a_name_becomes_the_tag_that_is_most_like_it(name: str, tag: str) -> None:
    assert tag_of(name) == tag
