"""Trees as text, and file ops done on them in a forked child with its own mount namespace.

A tree is a dict: path to content. Keys that end in ``/`` are directories. Values: str or bytes for
files, `Link` for symbolic links, `Entry` for anything with attributes.
"""

from __future__ import annotations

import marshal
import os
import stat
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet

from pybuild.executor.files.apply import Mounts, apply
from pybuild.executor.files.encode import encode_action
from pybuild.executor.files.values import Applied, ClientDirectory, DeltaStack, Refresh, TreeInput
from pybuild.executor.zygote import isolation
from pybuild.executor.zygote.faults import Fault
from pybuild.model.border import WorkerCall
from pybuild.model.ops import Copy, FileAction

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts overlays, so it needs root")


@dataclass(frozen=True)
class Link:
    target: str


@dataclass(frozen=True)
class Entry:
    content: str | bytes | Link | None = None
    mode: int | None = None
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    mtime: int | None = None


Spec = Mapping[str, str | bytes | Link | Entry | None]
BASE: Spec = {"etc/": None, "keep": "base"}


def copy(source: str, dest: str, **options: object) -> Copy:
    """Return a copy from the first input, as the frontend writes it."""
    wildcard = any(c in source for c in "*?[\\")
    values: dict[str, object] = {"wildcard": wildcard, "allow_empty": wildcard, **options}
    return Copy(input=1, source=source, dest=dest, **values)  # type: ignore[arg-type]  # pyright: ignore


def build(root: Path, spec: Spec) -> Path:
    """Make the tree; parents 0755."""
    root.mkdir(parents=True, exist_ok=True)
    later: list[tuple[Path, Entry]] = []
    for name, value in spec.items():
        entry = value if isinstance(value, Entry) else Entry(value)
        path = root / name.rstrip("/")
        for parent in reversed(path.relative_to(root).parents):
            if not (root / parent).exists():
                (root / parent).mkdir()
                (root / parent).chmod(0o755)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif isinstance(entry.content, Link):
            path.symlink_to(entry.content.target)
        else:
            data = entry.content or b""
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        later.append((path, entry))
    for path, entry in reversed(later):
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        if not path.is_symlink():
            default = 0o755 if path.is_dir() else 0o644
            path.chmod(default if entry.mode is None else entry.mode)
        if entry.mtime is not None:
            os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)
    return root


@dataclass(frozen=True)
class Seen:
    """One entry as found."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    content: bytes
    ino: int
    xattrs: tuple[tuple[str, bytes], ...] = ()


def change(edit: Callable[[Path], object], id: str) -> ParameterSet:
    """A parameter that is an edit of a tree; typed, so that a lambda may be one."""
    return pytest.param(edit, id=id)


def describe(root: str) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for directory, dirs, files in os.walk(root):
        for name in [*dirs, *files]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content = b""
            xattrs: list[tuple[str, bytes]] = []
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            if stat.S_ISLNK(status.st_mode):
                content = os.fsencode(os.readlink(path))
            else:
                xattrs = [
                    (n, os.getxattr(path, n, follow_symlinks=False))
                    for n in sorted(os.listxattr(path, follow_symlinks=False))
                    if "overlay" not in n
                ]
            found["/" + os.path.relpath(path, root)] = (
                stat.filemode(status.st_mode)[0],
                stat.S_IMODE(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_mtime_ns,
                content,
                status.st_ino,
                tuple(xattrs),
            )
    return found


def in_child(function: Callable[[], Any]) -> Any:
    """Run *function* in a forked child with a private mount namespace; faults come back."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            try:
                isolation.enter(None)
                answer: tuple[Any, ...] = ("ok", function())
            except Fault as fault:
                answer = ("fault", fault.kind, fault.message, list(fault.hints))
            except BaseException as error:  # noqa: BLE001
                answer = ("error", f"{error!r}\n{traceback.format_exc()}")
            with open(writer, "wb") as out:
                out.write(marshal.dumps(answer))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as back:
        data = back.read()
    os.waitpid(pid, 0)
    answer = marshal.loads(data)
    if answer[0] == "fault":
        raise Fault(answer[1], answer[2], tuple(answer[3]))
    if answer[0] == "error":
        raise RuntimeError(answer[1])
    return answer[1]


class Bench:
    """A base, sources and a place for results, for one test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base: list[str] = []
        self.inputs: dict[int, TreeInput] = {}
        self.upper = root / "upper"

    def delta(self, spec: Spec, mode: int = 0o755) -> Bench:
        """Add a delta to the base."""
        path = build(self.root / f"delta{len(self.base)}", spec)
        path.chmod(mode)
        self.base.append(str(path))
        return self

    def context(self, spec: Spec, exclude: Sequence[str] = (), index: int = 1) -> Bench:
        path = build(self.root / f"local{index}", spec)
        self.inputs[index] = ClientDirectory(str(path), tuple(exclude))
        return self

    def snapshot(self, spec: Spec, index: int = 1) -> Bench:
        path = build(self.root / f"snap{index}", spec)
        self.inputs[index] = DeltaStack([str(path)])
        return self

    def run(
        self,
        *actions: FileAction,
        is_scratch: bool = False,
        before: Callable[[], None] | None = None,
        refresh: Refresh | None = None,
    ) -> dict[str, Seen]:
        """Do *actions*; return the merged tree."""
        mounts = self._empty()

        def job() -> Any:
            if before is not None:
                before()
            self._apply(actions, mounts, is_scratch, refresh)
            if not self.base:
                return describe(str(self.upper))
            with Mounts(mounts) as again:
                return describe(again.overlay([*self.base, str(self.upper)]))

        return {path: Seen(*values) for path, values in in_child(job).items()}

    def remarks(self, *actions: FileAction) -> list[tuple[str, list[str]]]:
        """Do *actions*; return what there was to remark, by kind."""
        mounts = self._empty()

        def job() -> Any:
            applied = self._apply(actions, mounts, is_scratch=False, refresh=None)
            return [(remark.kind, list(remark.values)) for remark in applied.remarks]

        remarks: list[tuple[str, list[str]]] = in_child(job)
        return remarks

    def _empty(self) -> str:
        """Make the directories of a result; return the one to mount on."""
        for directory in (self.upper, self.root / "work", self.root / "mounts"):
            directory.mkdir()
        return str(self.root / "mounts")

    def _apply(
        self, actions: Sequence[FileAction], mounts: str, is_scratch: bool, refresh: Refresh | None
    ) -> Applied:
        return apply(
            WorkerCall(),
            mounts,
            str(self.upper),
            work=str(self.root / "work"),
            base=self.base,
            inputs=self.inputs,
            actions=[encode_action(action, is_scratch=is_scratch) for action in actions],
            refresh=refresh,
        )

    def changed(self) -> set[str]:
        """Return the entries of the upper directory."""
        return set(describe(str(self.upper)))
