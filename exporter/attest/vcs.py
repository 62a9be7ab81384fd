"""The version control of a directory that is built [BLD-32]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from pybuild.model.secrets import without_secrets
from pybuild.model.text import boolean

_TIMEOUT_S = 5.0
_MOST = 4096


async def version_control(directory: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``vcs:revision``, ``vcs:source`` and ``vcs:localdir:context`` of a git work tree.

    Nothing where there is no git, no work tree or no commit. Only questions are asked that run
    nothing of the repository's: no filters, no hooks.
    """
    if boolean(environ.get("BUILDX_GIT_INFO", "").lower()) is False:
        return {}
    revision = await _git(directory, environ, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if not revision:
        return {}
    facts = {"vcs:revision": revision}
    remote = await _git(directory, environ, "config", "--get", "remote.origin.url")
    if remote:
        facts["vcs:source"] = without_secrets(remote)
    top = await _git(directory, environ, "rev-parse", "--show-toplevel")
    if top:
        facts["vcs:localdir:context"] = os.path.relpath(os.path.realpath(directory), top)
    return facts


async def _git(directory: str, environ: Mapping[str, str], *words: str) -> str:
    """Return the one line that git answers; empty where it does not."""
    env = {**environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            "-c",
            "core.fsmonitor=false",
            "-C",
            directory,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=env,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    if process.returncode or len(output) > _MOST:
        return ""
    return output.decode("utf-8", "replace").strip()
