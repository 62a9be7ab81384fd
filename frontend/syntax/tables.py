"""Parse tables of the grammars: read from their files, or compiled where those are out of date."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from pybuild import grammar


def load_tables(name: str) -> dict[str, Any]:
    """Return the tables of ``grammar/<name>.lark``, as `pybuild.frontend.syntax.grammars` describes them."""
    text = _read(f"{name}.lark")
    tables: dict[str, Any] = {}
    try:
        tables = json.loads(_read(f"{name}.json"))
    except (OSError, ValueError):
        pass  # not there, or not whole
    if tables.get("source") == hashlib.sha256(text).hexdigest():
        return tables
    from pybuild.frontend.syntax.grammars import (
        compile_tables,  # Lark: only while a grammar is changed
    )

    return compile_tables(text)


def _read(name: str) -> bytes:
    # What importlib.resources does, without the 15 ms that its import takes.
    loader: Any = grammar.__loader__
    return bytes(loader.get_data(os.path.join(grammar.__path__[0], name)))
