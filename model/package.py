"""This package as it is installed: its version, and the directories that it is imported from."""

from __future__ import annotations

import os
import sys

VERSION = "0.1.0"
USER_AGENT = "pybuild/0.1"
"""Our name to servers of HTTP."""


def parent_directories() -> list[str]:
    """Return the directories that must be on a process's path for it to import this package.

    A checkout that is installed in place is found by a hook of site's, not by the path alone.
    """
    package = sys.modules[__name__.partition(".")[0]]
    return [os.path.dirname(os.path.abspath(path)) for path in package.__path__]
