"""A repository with history, and its server."""

from __future__ import annotations

from pathlib import Path

from pybuild.model.ops import GitSource
from tests.gitservers import Repository


class Remote:
    """A repository with a branch, a tag and history, and where it is served."""

    def __init__(self, base: Path, url: str) -> None:
        self.base = base
        self.url = url
        self.repository = Repository(base / "r")
        self.first = self.repository.commit({"a.txt": "1", "sub/b.txt": "b", "sub/dir/c": "c"})
        self.repository.git("tag", "-a", "v1", "-m", "tag")
        self.tag = self.repository.git("rev-parse", "v1")
        script = self.repository.path / "run.sh"
        script.write_text("#!/bin/sh\n")
        script.chmod(0o775)
        self.second = self.repository.commit({"a.txt": "2"})
        self.repository.git("branch", "dev", self.first)

    def source(self, ref: str = "", **fields: object) -> GitSource:
        return GitSource(remote=self.url + "/r", ref=ref, **fields)  # type: ignore[arg-type]


def names(tree: Path) -> list[str]:
    return sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
