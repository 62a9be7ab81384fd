"""Lists of containers: what each one costs."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.containers.listing import rows_of
from tests.clocks import FakeClock
from tests.containers.busyboxes import busybox_containers

_OPENED: list[list[str]] = []
_LISTING = threading.get_ident()  # threads that other tests have left open files, too


def _note(event: str, details: tuple[object, ...]) -> None:
    if event == "open" and _OPENED and threading.get_ident() == _LISTING:
        _OPENED[-1].append(str(details[0]))


def _opened_by_ps(root: str) -> list[str]:
    """Return the files that are opened to list all containers."""
    with Store.open(root, FakeClock(), to_read=True) as store:
        _OPENED.append([])
        try:
            rows_of(store, (), all=True, last=-1, sized=False, whole=False)
        finally:
            opened = _OPENED.pop()
    return opened


@pytest.mark.sandbox
def test_a_row_takes_three_files_and_no_network_is_read_for_it(tmp_path: Path) -> None:
    """Its directory, its config and its state: `ps` of 200 is over in 40 ms [issue 16, Show 5]."""
    sys.addaudithook(_note)
    with busybox_containers(tmp_path / "store") as containers:
        containers.make("true", "one", network="bridge")
        first = len(_opened_by_ps(containers.root))
        for name in ("two", "three"):
            containers.make("true", name, network="bridge")
        opened = _opened_by_ps(containers.root)
        assert len(opened) - first == 2 * 3, opened
