"""The rights that a definition asks for beyond its own folder: granted by ``--allow``, or refused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from pybuild.bake.prepare import local_paths
from pybuild.bake.target import Target
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError, UserError
from pybuild.model.text import boolean

_NETWORK, _INSECURE, _DELETE, _SSH = (
    "network.host",
    "security.insecure",
    "buildx.local.delete",
    "ssh",
)
_WORDS = (_NETWORK, _INSECURE, _DELETE, _SSH)
_PLACES = ("device", "fs", "fs.read", "fs.write", "image", "image.load", "image.push")
_MEANINGS = {
    _NETWORK: "Running build containers that can access host network",
    _INSECURE: "Running privileged containers that can make system changes",
    _DELETE: "Deleting stale files from local output destinations",
    _SSH: "Forwarding default SSH agent socket",
}


@dataclass(frozen=True, slots=True)
class Allowances:
    """Rights: *words*, devices by name (all: ``""``), and paths that may be read and written."""

    words: frozenset[str] = frozenset()
    devices: tuple[str, ...] = ()
    reads: tuple[str, ...] = field(default=())
    writes: tuple[str, ...] = field(default=())

    @classmethod
    def parse(cls, values: Iterable[str]) -> Allowances:
        """Read the values of ``--allow``.

        Raises:
            UsageError: there is no such right.
        """
        words: set[str] = set()
        devices: list[str] = []
        reads: list[str] = []
        writes: list[str] = []
        for value in values:
            name, equals, rest = value.partition("=")
            if name not in (*_WORDS, *_PLACES) or (equals and name in _WORDS):
                known = ", ".join((*_WORDS, *(f"{one}=…" for one in _PLACES)))
                raise UsageError(f'unknown entitlement "{value}"', hints=[f"there are {known}"])
            if name in _WORDS:
                words.add(name)
            elif name == "device":
                devices.append(rest)
            if name in ("fs", "fs.read"):
                reads.append(rest)
            if name in ("fs", "fs.write"):
                writes.append(rest)
        return cls(frozenset(words), tuple(devices), tuple(reads), tuple(writes))

    def missing(self, target: Target) -> list[str]:
        """Return the values of ``--allow`` that a target would need too."""
        needs: dict[str, None] = {}
        for one in target.texts("entitlements"):
            name, _, device = one.partition("=")
            if name == "device":
                if "" not in self.devices and device not in self.devices:
                    needs[one] = None
            elif one not in self.words:
                needs[one] = None
        for entry in target.entries("output"):
            if entry.get("mode") == "delete" and _DELETE not in self.words:
                needs[_DELETE] = None
        reads, writes = list(local_paths(target)), list[str]()
        for entry in target.entries("ssh"):
            paths = entry.get("paths")
            if isinstance(paths, list):
                reads += map(str, paths)
            elif _SSH not in self.words:
                needs[_SSH] = None
        reads += [str(one["src"]) for one in target.entries("secret") if "src" in one]
        reads += _local(target, "cache-from", "src")
        writes += _local(target, "cache-to", "dest")
        writes += [
            str(one["dest"]) for one in target.entries("output") if one.get("dest", "-") != "-"
        ]
        needs |= dict.fromkeys(f"fs.read={path}" for path in _outside(reads, self.reads))
        needs |= dict.fromkeys(f"fs.write={path}" for path in _outside(writes, self.writes))
        return list(needs)


def _local(target: Target, name: str, place: str) -> list[str]:
    return [
        str(one[place]) for one in target.entries(name) if one["type"] == "local" and one.get(place)
    ]


def _real(path: str) -> str:
    """Return the real path of the nearest directory that is there, and what is below it."""
    return os.path.realpath(path)


def _outside(paths: Iterable[str], allowed: Sequence[str]) -> list[str]:
    """Return the paths that are neither in this directory nor in *allowed* ones."""
    if "*" in allowed:
        return []
    roots = [os.getcwd(), *allowed]
    trusted = [_real(root) for root in roots]
    outside: list[str] = []
    for path in sorted({_real(one) for one in paths}):
        if any(path == root or path.startswith(root.rstrip("/") + "/") for root in trusted):
            continue
        if not any(path == one or path.startswith(one.rstrip("/") + "/") for one in outside):
            outside.append(path)
    return [
        os.path.relpath(path) if len(os.path.relpath(path)) < len(path) else path
        for path in outside
    ]


def check(targets: Iterable[Target], allowed: Allowances, environ: Mapping[str, str]) -> None:
    """Refuse what nobody has allowed.

    Raises:
        UserError: with the flags that allow it.
    """
    missing = list(dict.fromkeys(one for target in targets for one in allowed.missing(target)))
    if boolean(environ.get("BUILDX_BAKE_ENTITLEMENTS_FS", "")) is False:
        missing = [one for one in missing if not one.startswith(("fs.", _SSH))]
    if not missing:
        return
    flags = " ".join(f"--allow={one}" for one in missing)
    meanings = "; ".join(_MEANINGS.get(one, one) for one in missing)
    raise UserError(
        f"additional privileges requested: {meanings}",
        hints=[f"to grant them: pybuild bake {flags}"],
    )
