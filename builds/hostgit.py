"""This machine's git, which answers questions about a directory for options that need it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from pybuild.model.errors import EnvironmentFault

_SECONDS = 120.0
# Repositories may name programs that git is to run; whoever wrote the context wrote them.
_GIT = ("git", "-c", "core.fsmonitor=false")


def ask_git(
    folder: str, words: Sequence[str], *, option: str, instead: str
) -> subprocess.CompletedProcess[bytes]:
    """Return how git ended in *folder*, and what it said; variables of ours tell it nothing.

    Args:
        option: that needs the answer.
        instead: what does without git, for people who have none.

    Raises:
        EnvironmentFault: there is no git, or it does not come to an end.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.run(
            [*_GIT, *words],
            cwd=folder,
            env={**environ, "LC_ALL": "C"},
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise EnvironmentFault(
            f"{option} needs git, which is not installed", hints=[f"install git, or {instead}"]
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFault(f"git took more than {_SECONDS:.0f} s in {folder}") from error


def reason(ended: subprocess.CompletedProcess[bytes]) -> str:
    """Return the line of git's that says why it failed; below it may stand that its search ended somewhere."""
    lines = ended.stderr.decode(errors="replace").strip().split("\n")
    return next((line for line in lines if line.startswith("fatal: ")), lines[-1])
