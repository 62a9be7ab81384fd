"""No circle of imports, whichever kind counts: at the head of a file, in a function, for types only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx
import pytest

from tests.harness import ROOT
from tests.test_packaging import ROOMS


@pytest.mark.slow
def test_no_module_imports_itself_by_way_of_others() -> None:
    graph: networkx.DiGraph[str] = networkx.DiGraph(_imports())
    circles = [sorted(found) for found in networkx.strongly_connected_components(graph)]
    assert [found for found in circles if len(found) > 1] == []


def _imports() -> Iterator[tuple[str, str]]:
    """Yield each module of the package with each module of it that its text imports."""
    modules = dict(_modules())
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                imported = [one if one in modules else str(node.module) for one in whole]
            else:
                continue
            for other in imported:
                if other in modules and other != name:
                    yield name, other


def _modules() -> Iterator[tuple[str, Path]]:
    for room in ("pybuild", *ROOMS):
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[0] != "pybuild":
                parts = ("pybuild", *parts)
            elif parts[1] in ROOMS:
                continue  # the same file by its link
            yield ".".join(part for part in parts if part != "__init__"), path
