"""A RUN as it is lowered."""

from __future__ import annotations

from typing import Any

from pybuild.model.ops import (
    ExecOp,
    Mount,
)
from tests.frontend.lowering import build, execs

ROOT = Mount(target="/", input=0, output=True)


def run(text: str, before: str = "", **options: Any) -> ExecOp:
    return execs(build(f"FROM a\n{before}\nRUN {text}\n", **options))[-1]
