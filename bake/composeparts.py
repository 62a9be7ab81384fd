"""Compose files that are made of others: ``include``, and ``extends`` of a service in another file.

Paths in such a file count from its own directory, and so those of its services are written anew.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from pybuild.bake.composefile import Compose, Object, build_of, environment_with_file, merged
from pybuild.bake.prepare import is_url
from pybuild.builds.contextkinds import is_remote_name
from pybuild.model.errors import UserError

_MOST_FILES = 200


class ComposeParts:
    """The other files that compose files name.

    Args:
        read: gives the bytes of a file; raises `UserError`.

    Attributes:
        files: the paths that were read.
    """

    def __init__(self, environment: Mapping[str, str], read: Callable[[str], bytes]) -> None:
        self._environment = environment
        self._read = read
        self.files: dict[str, None] = {}
        self._read_so_far = 0

    def whole(
        self, compose: Compose, folder: str = "", above: tuple[str, ...] = ()
    ) -> list[Compose]:
        """Return the files that *compose* includes, and itself, with no word of other files left.

        Args:
            folder: its directory; empty for those of the command line, which count from here.

        Raises:
            UserError: one is not there, is wrong, or leads back to itself.
        """
        made: list[Compose] = []
        for path, place, environment in self._includes(compose, folder):
            if path in above:
                raise UserError(f"{compose.name} includes itself, by {' and '.join(above)}")
            inner = self._parsed(path, environment)
            made += self.whole(inner, place, (*above, path))
        services = {name: self._service(compose, name, folder, ()) for name in compose.services}
        for other in made:
            if twice := sorted(services.keys() & other.services.keys()):
                raise UserError(f"service {twice[0]} of {other.name} is one of {compose.name} too")
        secrets = {name: _secret_in(one, folder) for name, one in compose.secrets.items()}
        return [*made, replace(compose, services=services, secrets=secrets)]

    def _includes(self, compose: Compose, folder: str) -> list[tuple[str, str, Mapping[str, str]]]:
        """Return the path of each file that is included, its directory, and its variables."""
        included: list[tuple[str, str, Mapping[str, str]]] = []
        entries: object = compose.include or []
        if not isinstance(entries, list):
            raise UserError(f"{compose.name}: include must be a list")
        for entry in cast("list[object]", entries):
            parts = cast("Object", entry) if isinstance(entry, dict) else {"path": entry}
            if "env_file" in parts:
                raise UserError(f"{compose.name}: env_file of an include is not read")
            paths: object = parts.get("path")
            listed = cast("list[object]", paths) if isinstance(paths, list) else [paths]
            if not listed or not all(isinstance(one, str) and one for one in listed):
                raise UserError(f"{compose.name}: an include has a path")
            names = [_path_in(one, folder) for one in listed]
            place = posixpath.dirname(names[0])
            if own := parts.get("project_directory"):
                place = posixpath.join(folder, str(own))
            environment = environment_with_file(self._environment, place or ".")
            included += [(name, place, environment) for name in names]
        return included

    def _parsed(self, path: str, environment: Mapping[str, str]) -> Compose:
        self.files[path] = None
        self._read_so_far += 1
        if self._read_so_far > _MOST_FILES:
            raise UserError(f"compose files that name others more than {_MOST_FILES} times")
        return Compose.parse(path, self._read(path), environment)

    def _service(
        self, compose: Compose, name: str, folder: str, above: tuple[tuple[str, str], ...]
    ) -> Object:
        """Return a service, laid over the one of another file that it extends."""
        own = _service_in(compose.services[name], folder)
        path, other = _extended_file(own)
        if not path and not (other and above):
            return own  # of these files: it may be in one that comes later
        if other == "":
            return own
        path = posixpath.normpath(posixpath.join(folder, path)) if path else compose.name
        if (path, other) in above:
            raise UserError(f"service {name} extends itself, by {path}")
        file = compose if path == compose.name else self._parsed(path, self._environment)
        if other not in file.services:
            raise UserError(f"service {name} extends {other}, which is not in {path}")
        under = self._service(file, other, posixpath.dirname(path), (*above, (path, other)))
        return merged(under, {key: one for key, one in own.items() if key != "extends"})


def _extended_file(service: Object) -> tuple[str, str]:
    """Return the file, empty if it is the same, and the name of the service that one extends."""
    extends: object = service.get("extends")
    if not extends:
        return "", ""
    parts = cast("Object", extends) if isinstance(extends, dict) else {"service": extends}
    return str(parts.get("file") or ""), str(parts.get("service"))


def _service_in(service: Object, folder: str) -> Object:
    """Return a service with its paths as they are from here."""
    if not folder or service.get("build") in (None, ""):
        return service
    build = dict(build_of(service))
    if not is_url(str(build.get("context") or ".")):
        build["context"] = _path_in(build.get("context") or ".", folder)
    contexts: object = build.get("additional_contexts")
    if isinstance(contexts, dict):
        pairs = cast("dict[str, object]", contexts)
        build["additional_contexts"] = {
            name: _context_in(str(one), folder) for name, one in pairs.items()
        }
    elif isinstance(contexts, list):
        texts = [str(one).partition("=") for one in cast("Sequence[object]", contexts)]
        build["additional_contexts"] = [
            f"{name}={_context_in(value, folder)}" for name, _, value in texts
        ]
    return {**service, "build": build}


def _context_in(value: str, folder: str) -> str:
    is_service = value.startswith(("service:", "target:"))
    return value if is_service or is_remote_name(value) else _path_in(value, folder)


def _secret_in(secret: object, folder: str) -> object:
    if not isinstance(secret, dict):
        return secret
    made = cast("Object", secret)
    is_moved = folder and made.get("file")
    return {**made, "file": _path_in(made["file"], folder)} if is_moved else made


def _path_in(path: object, folder: str) -> str:
    return posixpath.normpath(posixpath.join(folder, str(path)))
