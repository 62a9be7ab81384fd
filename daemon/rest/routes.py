"""The subject of a request, read from its method and path; pure [ENG-11, ENG-12]."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.model.dataclass import dataclass

Version = tuple[int, int]
NEWEST: Version = (1, 51)
OLDEST: Version = (1, 24)
_PREFIX = re.compile(r"/v(\d{1,4})\.(\d{1,4})(?=/)")
_SLASHES = tuple(
    f"{method} {path}"
    for path in ("/images/{name}", "/distribution/{name}", "/containers/{name}")
    for method in ("DELETE", "GET", "HEAD", "POST", "PUT")
)
"""Where names may have slashes in them: those of images, and of links, which are PARENT/ALIAS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """One request, understood.

    Attributes:
        route: as the table of handlers has it: ``POST /containers/{name}/start``.
        version: of the API that the client speaks.
        name: the container, image, network, volume or process in the path, "" where there is none.
    """

    route: str
    version: Version
    name: str = ""


class Routes:
    """All routes that there are."""

    def __init__(self, routes: Iterable[str]) -> None:
        self._fixed: dict[str, str] = {}
        self._named: list[tuple[str, re.Pattern[str], str]] = []
        for route in routes:
            method, _, path = route.partition(" ")
            if "{name}" not in path:
                self._fixed[route] = route
                continue
            name = "(.+)" if route.startswith(_SLASHES) else "(/?[^/]+)"
            pattern = re.escape(path).replace(r"\{name\}", name)
            self._named.append((method, re.compile(pattern), route))
        # A name with slashes takes what it can: the longer routes come first.
        self._named.sort(key=lambda one: len(one[2]), reverse=True)

    def understand(self, method: str, path: str) -> ApiCall:
        """Return the call that *method* and *path*, percent-decoded, make.

        Raises:
            ApiRefusal: there is nothing there, or the version is none of ours.
        """
        version = NEWEST
        match = _PREFIX.match(path)
        if match:
            version = (int(match[1]), int(match[2]))
            path = path[match.end() :]
            check_version(version)
        route = self._fixed.get(f"{method} {path}")
        if route is not None:
            return ApiCall(route=route, version=version)
        for known, pattern, route in self._named:
            if known == method and (fits := pattern.fullmatch(path)):
                return ApiCall(route=route, version=version, name=fits[1])
        raise ApiRefusal(404, "page not found")


def check_version(version: Version) -> None:
    """Refuse a version that is not served.

    Raises:
        ApiRefusal: it is too new or too old.
    """
    text = shown_version(version)
    if version > NEWEST:
        raise ApiRefusal(
            400,
            f"client version {text} is too new. Maximum supported API version is "
            f"{shown_version(NEWEST)}",
        )
    if version < OLDEST:
        raise ApiRefusal(
            400,
            f"client version {text} is too old. Minimum supported API version is "
            f"{shown_version(OLDEST)}, please upgrade your client to a newer version",
        )


def shown_version(version: Version) -> str:
    """Return ``1.51``."""
    return f"{version[0]}.{version[1]}"


def signature(package_version: str) -> Mapping[str, str]:
    """Return the headers of every answer [ENG-13]."""
    return {
        "Api-Version": shown_version(NEWEST),
        "Docker-Experimental": "false",
        "Ostype": "linux",
        "Server": f"Docker/{package_version} (linux)",
    }
