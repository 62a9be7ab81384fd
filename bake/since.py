"""``--since``: the targets that a change in git reaches, from a revision to the files as they are now.

Of a target that was built here, the files that it read are known, as long as its Dockerfile and its ignore file are
those of that build. Of another one everything in its contexts counts. What git does not see (ignored
files, variables, standard input, what is fetched) does not count; a change of the definition itself reaches every target.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pybuild.bake.prepare import is_url
from pybuild.builds import memo
from pybuild.builds.contextfiles import IGNORE_FILES
from pybuild.builds.contextkinds import is_remote_name
from pybuild.builds.hostgit import ask_git, reason
from pybuild.builds.manymemos import Memos
from pybuild.builds.namedbuild import NamedBuild
from pybuild.model.errors import UserError
from pybuild.model.patterns import PatternMatcher


def changed_since(revision: str, folder: str) -> list[str]:
    """Return the real paths of the files that differ from *revision*, in the repository of *folder*.

    Files that are new count too, unless git ignores them; a submodule is a path.

    Raises:
        UserError: there is no repository, or no such revision; EnvironmentFault: no git.
    """
    top = os.path.realpath(_git(folder, "rev-parse", "--show-toplevel").decode().rstrip("\n"))
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}")
    commit = _git(folder, *words, revision=revision).decode().strip()
    diff = ("diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", commit, "--")
    named = _git(top, *diff) + _git(top, "ls-files", "-z", "--others", "--exclude-standard")
    return sorted(os.path.join(top, os.fsdecode(name)) for name in named.split(b"\0") if name)


def _git(folder: str, *words: str, revision: str = "") -> bytes:
    done = ask_git(folder, words, option="--since", instead="use --affected")
    if not done.returncode:
        return done.stdout
    if revision:
        raise UserError(
            f'--since: "{revision}" is no revision of this repository',
            hints=["a shallow checkout has few: fetch it, as with git fetch --unshallow"],
        )
    raise UserError(
        f'--since: git cannot say what changed in "{folder}": {reason(done)}',
        hints=["bake in a checkout, or use --affected"],
    )


def reached(
    builds: Mapping[str, NamedBuild],
    changed: Sequence[str],
    definition: Iterable[str],
    memos: Memos,
) -> dict[str, NamedBuild]:
    """Return *builds*, of which only those are delivered still that read a path of *changed*.

    Args:
        definition: paths of the files that the builds were read from.
        memos: what builds read when they were made here.
    """
    if any(_is_below(path, os.path.realpath(file)) for path in changed for file in definition):
        return dict(builds)
    known: dict[str, bool] = {}

    def is_reached(name: str) -> bool:
        if name not in known:
            record = memos.record(name)
            if record is not None and _is_of_now(record):
                known[name] = _reads_recorded(record, changed)
            else:
                links = builds[name].links.values()
                known[name] = _may_read(builds[name], changed) or any(map(is_reached, links))
        return known[name]

    return {
        name: replace(one, is_delivered=one.is_delivered and is_reached(name))
        for name, one in builds.items()
    }


def _is_of_now(record: Mapping[str, Any]) -> bool:
    """Whether a build's Dockerfiles and ignore files are still those that it was recorded with."""
    try:
        return all(memo.file_has(path, digest) for path, digest in record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _reads_recorded(record: Mapping[str, Any], changed: Sequence[str]) -> bool:
    files = [os.path.realpath(path) for path, _ in record["files"]]
    if any(path in files for path in changed):
        return True
    for context in record["contexts"]:
        root = os.path.realpath(context["path"])
        matcher = PatternMatcher(context["exclude"])
        for path in changed:
            if not _is_below(path, root):
                if _is_below(root, path):  # a submodule that the context lies in
                    return True
                continue
            inside = os.path.relpath(path, root)
            is_hidden = matcher.matches(inside) and not os.path.isdir(path)
            if not is_hidden and any(_touches(inside, one) for one in context["prefixes"]):
                return True
    return False


def _may_read(build: NamedBuild, changed: Sequence[str]) -> bool:
    places = [name.partition("=")[2] for name in build.flags.get("build-context", [])]
    places = [place for place in places if not is_remote_name(place)]
    if not is_url(build.request.context):
        places.append(build.request.context)
    for dockerfile in build.flags.get("file", []):
        if not is_url(dockerfile):
            places += [dockerfile, *(dockerfile + suffix for suffix in IGNORE_FILES)]
    roots = [os.path.realpath(place) for place in places]
    return any(_is_below(path, root) or _is_below(root, path) for path in changed for root in roots)


def _touches(inside: str, prefix: str) -> bool:
    """Whether a changed path and what a build reads are one below the other."""
    return not prefix or _is_below(inside, prefix) or _is_below(prefix, inside)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
