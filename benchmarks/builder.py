"""The interface of a builder, for all of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

AT_ONCE = 8
"""So many commands a builder without an API is given at once."""
_TIMEOUT_S = 1800.0


class Output(StrEnum):
    """The destination of a result."""

    DEFAULT = "default"  # whatever the builder does when nothing is said
    NOTHING = "nothing"  # built, and left in the builder's cache
    STORE = "store"  # where the machine's containers would be started from
    PUSH = "push"
    ARCHIVE = "archive"  # an OCI archive


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One build.

    Attributes:
        ref: the name that the result is pushed, stored or archived under.
        dest: the archive's path.
        cache_from, cache_to: a reference; "" for none.
    """

    context: Path
    args: Mapping[str, str] = field(default_factory=dict[str, str])
    no_cache: bool = False
    output: Output = Output.DEFAULT
    ref: str = "localhost/bench:1"
    dest: Path | None = None
    cache_from: str = ""
    cache_to: str = ""


class Builder(Protocol):
    """A builder with a store of its own in the place of the benchmark."""

    name: str

    def version(self) -> str: ...

    def build(self, job: Job) -> None:
        """Build; raises `CommandFailed`."""
        ...

    def build_all(self, jobs: Sequence[Job]) -> None:
        """Build all of them the fastest way that the builder has for that."""
        ...

    def bake(self, directory: Path) -> None:
        """Build all targets of the bake file in *directory*."""
        ...

    def forget(self, *, contexts: bool = True) -> None:
        """Be as after installation; without *contexts*, directories of clients are kept."""
        ...

    def daemons(self) -> list[int]:
        """Return the processes that serve it, whose memory is its memory."""
        ...

    def close(self) -> None: ...


class CommandFailed(Exception):
    """A command ended with another status than 0, or did not end."""


def command(
    *words: str | Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    directory: Path | None = None,
) -> str:
    """Run to the end; return standard output.

    Raises:
        CommandFailed: with the end of what it said.
    """
    texts = [str(word) for word in words]
    try:
        done = subprocess.run(
            texts,
            env={**os.environ, **(env or {})},
            cwd=directory,
            input=stdin,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandFailed(f"{texts[0]}: {error}") from error
    if done.returncode:
        output = (done.stderr or done.stdout).decode(errors="replace").strip()[-1500:]
        raise CommandFailed(f"{' '.join(texts)[:300]}: status {done.returncode}\n{output}")
    return done.stdout.decode(errors="replace")


def one_by_one(builder: Builder, jobs: Sequence[Job]) -> None:
    """Run a command a job, several at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(builder.build, job) for job in jobs]:
            done.result()
