"""``-v HOST:PATH[:ro|rw|O][,nokey]``: directories of this machine for every RUN of a build."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from itertools import pairwise

from pybuild.model.errors import UsageError
from pybuild.model.volumes import HostVolume, VolumeAccess

_KERNEL = ("/proc", "/sys", "/dev")
_FORM = "expected HOST:PATH[:ro|rw|O][,nokey]"
_NO_LABELS = ("z", "Z")  # no step is confined by SELinux's labels, so none is missing
_REFUSED = {
    "U": "owners on this machine stay what they are: with :O, RUN chown changes what steps see",
    "exec": "programs of a volume can be executed",
    "suid": "steps gain nothing by setuid programs of a volume",
    "dev": "a volume's devices cannot be used: write RUN --device=NAME",
}


def parse_volumes(texts: Sequence[str]) -> tuple[HostVolume, ...]:
    """Read the values of ``-v``.

    Raises:
        UsageError: the first one that is wrong, or two of which one lies in the other.
    """
    volumes = tuple(map(_parse, texts))
    targets = sorted(posixpath.join(one.target, "") for one in volumes)
    for outer, inner in pairwise(targets):
        if inner.startswith(outer):
            what = "is given twice" if inner == outer else f"lies in the volume {outer[:-1]}"
            raise UsageError(
                f"the volume {inner[:-1]} {what}", hints=["give each a place beside the others"]
            )
    return volumes


def _parse(text: str) -> HostVolume:
    source, _, rest = text.partition(":")
    target, _, words = rest.partition(":")
    if not words and target.endswith(",nokey"):
        target, words = target.removesuffix(",nokey"), "nokey"
    if not (source and target):
        raise UsageError(f'invalid volume "{text}": {_FORM}', hints=[_lone_hint(source or target)])
    access, in_key = _options(text, words.split(",") if words else [])
    return HostVolume(
        source=_source(text, source, in_key),
        target=_target(text, target),
        access=access,
        in_key=in_key,
    )


def _lone_hint(path: str) -> str:
    place = path if path.startswith("/") else "/PATH"
    return f"an empty directory for one step is RUN --mount=type=tmpfs,target={place}"


def _options(text: str, words: Sequence[str]) -> tuple[VolumeAccess, bool]:
    """Return the access, and whether the content counts."""
    accesses: list[VolumeAccess] = []
    in_key = True
    for word in words:
        if word in frozenset(VolumeAccess):
            accesses.append(VolumeAccess(word))
        elif word == "nokey":
            in_key = False
        elif word not in _NO_LABELS:
            raise UsageError(
                f'volume "{text}": the option {word or "between two commas"} is not done by pybuild',
                hints=[_REFUSED.get(word, "there are ro, rw, O, nokey, z and Z")],
            )
    if len({*accesses}) > 1:
        raise UsageError(
            f'volume "{text}": {" and ".join(accesses)} exclude each other',
            hints=[
                "ro: steps only read, O: what they write is lost, rw: it stays in the directory"
            ],
        )
    access = accesses[0] if accesses else VolumeAccess.READONLY
    # What steps write there would make the next build another one.
    return access, in_key and access is not VolumeAccess.WRITABLE


def _source(text: str, given: str, in_key: bool) -> str:
    if given[0] not in "/.~":
        raise UsageError(
            f'volume "{text}": {given} is a name, and there are no named volumes',
            hints=[
                f"a directory here is ./{given}",
                f"kept from build to build is RUN --mount=type=cache,id={given},target=/PATH",
            ],
        )
    path = os.path.realpath(os.path.expanduser(given))
    if not os.path.isdir(path):
        is_link = os.path.islink(os.path.abspath(os.path.expanduser(given)))
        if os.path.exists(path):
            problem = "not a directory"
            hint = "give the directory that it lies in, or the file with --secret id=NAME,src=FILE"
        else:
            problem = f"its link leads nowhere: {path}" if is_link else "no such directory"
            hint = f"make it first: mkdir -p {path}"
        raise UsageError(f'volume "{text}": {given}: {problem}', hints=[hint])
    if not os.access(path, os.R_OK | os.X_OK):
        raise UsageError(
            f'volume "{text}": {given}: permission denied',
            hints=["make it readable for who builds"],
        )
    # What is below /dev may be files: /dev/shm.
    if in_key and (path in ("/", "/dev") or _is_within(path, ("/proc", "/sys"))):
        raise UsageError(
            f'volume "{text}": the content of {path} is no part of a key',
            hints=["give a directory with files of yours, or write :ro,nokey"],
        )
    return path


def _target(text: str, given: str) -> str:
    if not given.startswith("/"):
        raise UsageError(
            f'volume "{text}": the path in steps must be absolute', hints=[f"write /{given}"]
        )
    if ".." in given.split("/"):
        raise UsageError(
            f'volume "{text}": the path in steps has ".." in it',
            hints=[f"write {posixpath.normpath(given)}"],
        )
    target = "/" + posixpath.normpath(given).lstrip("/")
    if target == "/":
        raise UsageError(
            f'volume "{text}": / is the image itself', hints=["name a directory, such as /mnt"]
        )
    if _is_within(target, _KERNEL):
        raise UsageError(
            f'volume "{text}": {target} is the kernel\'s', hints=["name another, such as /mnt"]
        )
    return target


def _is_within(path: str, roots: Sequence[str]) -> bool:
    return any(path == root or path.startswith(root + "/") for root in roots)
