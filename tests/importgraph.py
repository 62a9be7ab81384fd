"""Every import of the package, whichever kind: at the head of a file, in a function, for types only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx

from tests.harness import ROOT
from tests.test_packaging import ROOMS


def importgraph() -> networkx.DiGraph[str]:
    """Return the modules of the package, each with an edge to those that its text imports."""
    graph: networkx.DiGraph[str] = networkx.DiGraph(_imports())
    return graph


def room_of(module: str) -> str:
    """Return the room that a module such as ``pybuild.solver.keys`` lies in; "pybuild" is the front door."""
    room = module.split(".")[1] if "." in module else ""
    return room if room in ROOMS else "pybuild"


def _imports() -> Iterator[tuple[str, str]]:
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
