"""Scopes and definitions of texts, for tests."""

from __future__ import annotations

from collections.abc import Mapping

from pybuild.bake.definition import BLOCKS, Definition
from pybuild.bake.files import Environs, File, read_definition
from pybuild.bake.hcl.definitions import Definitions
from pybuild.bake.hcl.functions.table import functions
from pybuild.bake.hcl.syntax import read_hcl
from pybuild.bake.hcl.values import Value

NOW = 1_600_000_000.0
FUNCTIONS = functions(lambda: NOW, "/home/me")


def scope_of(text: str, environment: Mapping[str, str] | None = None) -> Definitions:
    """Return the scope of one HCL file."""
    return Definitions(
        [read_hcl(text.encode(), "docker-bake.hcl")],
        lookup=(environment or {}).get,
        given={"BAKE_CMD_CONTEXT": "cwd://"},
        functions=FUNCTIONS,
        fields=BLOCKS,
    )


def value_of(written: str) -> Value:
    """Return the value of an expression."""
    return scope_of(f"x = {written}\n").variable("x")


def definition(
    *texts: str,
    names: tuple[str, ...] = ("docker-bake.hcl", "docker-bake.override.hcl"),
    environment: Mapping[str, str] | None = None,
) -> Definition:
    """Return the definition of files with these texts."""
    files = [File(name, text.encode()) for name, text in zip(names, texts, strict=False)]
    around = Environs(
        given={"BAKE_CMD_CONTEXT": "cwd://", "BAKE_LOCAL_PLATFORM": "linux/amd64"},
        lookup=(environment or {}).get,
        environment=environment or {},
        functions=FUNCTIONS,
    )
    return read_definition(files, around)
