"""The files of a directory that git ignores: ``--ignore-from-git``."""

from __future__ import annotations

import os
import re

from pybuild.builds.hostgit import ask_git, reason
from pybuild.model.errors import UserError

_SPECIAL = re.compile(r"([*?\[\]\\!])")
_IGNORED = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")


def git_ignored(context: str) -> tuple[str, ...]:
    """Return patterns for the paths of *context* that git ignores, and for ``.git``.

    A file that git tracks is not ignored, whatever ``.gitignore`` says.

    Raises:
        UserError: it is in no repository; EnvironmentFault: git is not there, or fails.
    """
    done = ask_git(
        context, _IGNORED, option="--ignore-from-git", instead="name the files in .dockerignore"
    )
    if done.returncode:
        raise UserError(
            f'--ignore-from-git: git cannot say what it ignores in "{context}": {reason(done)}',
            hints=["build from a checkout, or name the files in .dockerignore"],
        )
    paths = [os.fsdecode(path).rstrip("/") for path in done.stdout.split(b"\0")]
    return (".git", *(_SPECIAL.sub(r"\\\1", path) for path in sorted(paths) if path))
