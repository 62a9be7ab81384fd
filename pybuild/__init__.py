"""Compile Dockerfiles to OCI images.

Importing this package costs nothing: the public names below are loaded on first use, because every
room's import runs this file first and a fully cached build must import almost nothing.
"""

from __future__ import annotations

__all__ = [
    "BuildResult",
    "Resources",
    "StepSettings",
    "__version__",
    "build",
    "build_async",
    "build_many",
]


TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.api import BuildResult, Resources, StepSettings, build, build_async, build_many
    from pybuild.model.package import VERSION as __version__


def __getattr__(name: str) -> object:
    if name != "__version__" and name in __all__:
        from pybuild import api

        return getattr(api, name)
    if name == "__version__":
        from pybuild.model.package import VERSION

        return VERSION
    raise AttributeError(f"module 'pybuild' has no attribute {name!r}")
