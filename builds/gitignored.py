"""The files of a directory that git ignores: ``--ignore-from-git``."""

from __future__ import annotations

import os
import re
import subprocess

from pybuild.model.errors import EnvironmentFault, UserError

_SECONDS = 120.0
_SPECIAL = re.compile(r"([*?\[\]\\!])")
# Repositories may name programs that git is to run; whoever wrote the context wrote them.
_COMMAND = ("git", "-c", "core.fsmonitor=false", "ls-files", "-z", "--others", "--ignored") + (
    "--exclude-standard",
    "--directory",
)


def git_ignored(context: str) -> tuple[str, ...]:
    """Return patterns for the paths of *context* that git ignores, and for ``.git``.

    A file that git tracks is not ignored, whatever ``.gitignore`` says.

    Raises:
        UserError: it is in no repository; EnvironmentFault: git is not there, or fails.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            _COMMAND,
            cwd=context,
            env={**environ, "LC_ALL": "C"},
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise EnvironmentFault(
            "--ignore-from-git needs git, which is not installed",
            hints=["install git, or name the files in .dockerignore"],
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFault(f"git took more than {_SECONDS:.0f} s in {context}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().split("\n")
        # Below the cause may stand that the search ended where a file system does.
        said = next((line for line in lines if line.startswith("fatal: ")), lines[-1])
        raise UserError(
            f'--ignore-from-git: git cannot say what it ignores in "{context}": {said}',
            hints=["build from a checkout, or name the files in .dockerignore"],
        )
    paths = [os.fsdecode(path).rstrip("/") for path in done.stdout.split(b"\0")]
    return (".git", *(_SPECIAL.sub(r"\\\1", path) for path in sorted(paths) if path))
