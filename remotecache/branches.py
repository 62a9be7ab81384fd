"""The branch that is built, and the one that it comes from, as names of caches [CCH].

The variables of CI services count first: there a checkout has no branch, and a merge request two.
Otherwise git's own files are read; git itself is not run.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence

from pybuild.cache.disk.plainfile import plain

PLACE = "{branch}"
NO_BRANCH = "latest"
_USUAL = ("main", "master")
_MOST_BYTES = 4096
_LONGEST_TAG = 128

# For each service: numbers of merge requests, then branches that are built, targets, defaults.
_NUMBERS = (
    "CI_MERGE_REQUEST_IID",
    "CHANGE_ID",
    "BUILDKITE_PULL_REQUEST",
    "SYSTEM_PULLREQUEST_PULLREQUESTNUMBER",
    "BITBUCKET_PR_ID",
    "DRONE_PULL_REQUEST",
    "CI_COMMIT_PULL_REQUEST",
)
_BUILT = (
    "GITHUB_HEAD_REF",
    "GITHUB_REF_NAME",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME",
    "CI_COMMIT_REF_NAME",
    "CHANGE_BRANCH",
    "BRANCH_NAME",
    "BUILDKITE_BRANCH",
    "CIRCLE_BRANCH",
    "SYSTEM_PULLREQUEST_SOURCEBRANCH",
    "BUILD_SOURCEBRANCH",
    "BITBUCKET_BRANCH",
    "DRONE_SOURCE_BRANCH",
    "CI_COMMIT_SOURCE_BRANCH",
    "CI_COMMIT_BRANCH",
)
_TARGETS = (
    "GITHUB_BASE_REF",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME",
    "CHANGE_TARGET",
    "BUILDKITE_PULL_REQUEST_BASE_BRANCH",
    "SYSTEM_PULLREQUEST_TARGETBRANCH",
    "BITBUCKET_PR_DESTINATION_BRANCH",
    "DRONE_TARGET_BRANCH",
    "CI_COMMIT_TARGET_BRANCH",
)
_DEFAULTS = ("CI_DEFAULT_BRANCH", "BUILDKITE_PIPELINE_DEFAULT_BRANCH", "DRONE_REPO_BRANCH")


def cache_tags(folder: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of a cache of *folder*: to write the first, to read all in this order.

    A merge request has a name of its own, whatever its branch is called: it may come from a
    stranger, and a cache that others build on is not his to write. Then come the branch, the
    branch that it is to be merged into, and the default branch: what they had when this one left
    them is still there, since caches keep for a while what was used. Without any branch it is
    ``latest``.
    """
    number = _first(environ, _NUMBERS) or _github_number(environ)
    git = _git_folder(folder)
    built = _first(environ, _BUILT) or (_head(git) if git else "")
    if not number and not built:
        return (NO_BRANCH,)
    target, default = _first(environ, _TARGETS), _first(environ, _DEFAULTS)
    default = default or (_default(git) if git else "")
    names = [built, target, *([default] if default else _USUAL)]
    tags = [f"pr-{tag_of(number)}"] if number else []
    return tuple(dict.fromkeys([*tags, *(tag_of(name) for name in names if name)]))


def with_branch(text: str, tags: Sequence[str]) -> tuple[str, ...]:
    """Return *text* with each of *tags* for ``{branch}``; itself if it has no such place."""
    return tuple(text.replace(PLACE, tag) for tag in tags) if PLACE in text else (text,)


def tag_of(name: str) -> str:
    """Return a branch's name as a tag can be."""
    tag = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
    tag = tag if re.match(r"[A-Za-z0-9_]", tag) else f"_{tag}"
    if len(tag) <= _LONGEST_TAG:
        return tag
    return f"{tag[: _LONGEST_TAG - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _first(environ: Mapping[str, str], names: Sequence[str]) -> str:
    for name in names:
        value = environ.get(name, "").removeprefix("refs/heads/")
        if value and value != "false" and not value.startswith("refs/"):
            return value
    return ""


def _github_number(environ: Mapping[str, str]) -> str:
    match = re.match(r"refs/pull/([0-9]+)/", environ.get("GITHUB_REF", ""))
    return match[1] if match else ""


def _git_folder(folder: str) -> str:
    """Return where git keeps the state of the checkout that *folder* is in; empty if it is none."""
    at = os.path.abspath(folder)
    while True:
        place = os.path.join(at, ".git")
        if os.path.isdir(place):
            return place
        text = _read(place)  # of a worktree or a submodule
        if text.startswith("gitdir: "):
            return os.path.normpath(os.path.join(at, text.removeprefix("gitdir: ")))
        above = os.path.dirname(at)
        if above == at:
            return ""
        at = above


def _head(git: str) -> str:
    return _branch(_read(os.path.join(git, "HEAD")), "ref: refs/heads/")


def _default(git: str) -> str:
    """Return the branch that the repository this one was cloned from shows first."""
    common = os.path.normpath(os.path.join(git, _read(os.path.join(git, "commondir")) or "."))
    head = _read(os.path.join(common, "refs/remotes/origin/HEAD"))
    return _branch(head, "ref: refs/remotes/origin/")


def _branch(text: str, start: str) -> str:
    name = text.removeprefix(start)
    return name if name != text and name != ".invalid" else ""  # what reftables leave there


def _read(path: str) -> str:
    """Return a small file's only line; empty if there is none."""
    try:
        with open(path, "rb", opener=plain) as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""
