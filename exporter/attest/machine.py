"""An operator's own entries of provenance about the machine: JSON files of a directory [DMN-1]."""

from __future__ import annotations

import json
import os
from typing import Any

from pybuild.exporter.attest.predicate import BUILTIN_KEYS
from pybuild.model.errors import UsageError

_MOST = 1 << 20


def read_machine(directory: str) -> dict[str, Any]:
    """Return the entries of all ``*.json`` files, later names winning; none where no directory is.

    Raises:
        UsageError: a file that cannot be read or holds no object, or an entry that is said already.
    """
    merged: dict[str, Any] = {}
    try:
        names = sorted(os.listdir(directory)) if directory else []
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"provenanceEnvDir {directory}: {error.strerror}") from error
    for name in names:
        path = os.path.join(directory, name)
        if not name.endswith(".json") or os.path.isdir(path):
            continue
        try:
            with open(path, "rb") as file:
                entries = json.loads(file.read(_MOST))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        except ValueError as error:
            raise UsageError(f"failed to parse {path}: {error}") from error
        if not isinstance(entries, dict):
            raise UsageError(f"{path}: expected a JSON object")
        merged |= entries
    for key in sorted(BUILTIN_KEYS & merged.keys()):
        raise UsageError(
            f'key "{key}" is builtin and not allowed to be modified in provenance config'
        )
    return merged
