"""The kernel's calls, as far as they have edges that callers should not see."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

from pybuild.executor.zygote import syscalls


def _rename_for_ever(place: str) -> None:
    while True:
        os.rename(f"{place}/x", f"{place}/y")
        os.rename(f"{place}/y", f"{place}/x")


def test_paths_are_resolved_in_a_root_while_others_rename(tmp_path: Path) -> None:
    """Any rename on the machine makes the kernel give up on ``..``: 16 times in 20,000 here."""
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/f").touch()
    (tmp_path / "x").touch()
    context = multiprocessing.get_context("fork")
    noise = context.Process(target=_rename_for_ever, args=(str(tmp_path),), daemon=True)
    noise.start()
    root = os.open(tmp_path / "root", os.O_PATH)
    try:
        for _ in range(8000):
            path = "a/b/../../../../f"
            os.close(syscalls.openat2(root, path, os.O_RDONLY, syscalls.RESOLVE_IN_ROOT))
    finally:
        os.close(root)
        noise.kill()
        noise.join()
