"""The platforms of a result, compared with those that its client asks for: its frontend may not look."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.daemon.frontend.results import Result
from pybuild.engine.host import native_platform
from pybuild.model.platform import Platform


def platform_warning(requested: str, result: Result) -> str:
    """Return a warning about the platforms of *result*; empty where they are those expected.

    Args:
        requested: the attribute ``platform``; without one this machine's is meant.

    Source: BuildKit, exporter/verifier/platforms.go.
    """
    given = requested or str(native_platform())
    names = [name.strip() for name in given.split(",") if name.strip()]
    made = [platform for _, platform in result.platforms()]
    if result.single is None and not result.many:
        return ""
    expected: list[Platform] = []
    for name in names:
        try:
            platform = Platform.parse(name)
        except ValueError as error:
            return f'Invalid platform result requested "{name}": {error}'
        if platform in expected:
            return f'Duplicate platform result requested "{name}"'
        expected.append(platform)
    if len(expected) == 1 and len(made) <= 1:
        if not made or made[0] in expected:
            return ""
        return f'Requested platform "{names[0]}" does not match result platform "{made[0]}"'
    if result.many is None:
        return "Multiple platforms requested but result is not multi-platform"
    if set(map(str, made)) == set(map(str, expected)):
        return ""
    return f"Requested platforms {_listed(expected)} do not match result platforms {_listed(made)}"


def _listed(platforms: Sequence[Platform]) -> str:
    return ",".join(map(str, platforms))
