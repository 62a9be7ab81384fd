"""Image references with Docker's normalisation [REG-1, FROM-17]."""

from __future__ import annotations

from pybuild.model.dataclass import dataclass, replace
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError

_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?\Z"

DOCKER_HUB = "docker.io"


def is_reference(text: str) -> bool:
    """Whether *text* can be the name of an image."""
    try:
        Reference.parse(text)
    except ValueError:
        return False
    return True


def is_pinned(text: str) -> bool:
    """Whether a name is written with a tag or a digest; else it means whatever tag is usual there."""
    return ":" in text.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Reference:
    """A full name such as ``docker.io/library/alpine:3.20@sha256:…``; tag or digest may be absent."""

    host: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read *text* as people write it: ``alpine``, ``ghcr.io/a/b:1``, ``x@sha256:…``.

        A name without tag and digest gets ``latest``.

        Raises:
            ValueError: not a valid reference.
        """
        rest, at, digest_text = text.partition("@")
        try:
            digest = Digest.parse(digest_text) if at else None
        except ValueError as error:
            raise ValueError(f'invalid reference format: "{text}": {error}') from error
        head, slash, tail = rest.partition("/")
        if slash and ("." in head or ":" in head or head == "localhost" or head != head.lower()):
            host, remainder = head, tail
        else:
            host, remainder = DOCKER_HUB, rest
        if host == "index.docker.io":
            host = DOCKER_HUB
        path, colon, tag = remainder.partition(":")
        if host == DOCKER_HUB and path and "/" not in path:
            path = "library/" + path
        if path != path.lower() and _matches(_PATH, path.lower(), "/"):
            raise ValueError(
                f"invalid reference format: repository name ({path}) must be lowercase"
            )
        valid = _matches(_HOST, host, ".") and _matches(_PATH, path, "/")
        if not valid or (colon and not _matches(_TAG, tag, ".")) or len(host) + len(path) > 255:
            raise ValueError(f'invalid reference format: "{text}"')
        return cls(host, path, tag if colon else (None if digest else "latest"), digest)

    @property
    def repository(self) -> str:
        """Host and path, without tag and digest."""
        return f"{self.host}/{self.path}"

    @property
    def familiar(self) -> str:
        """The short form people type: Docker Hub's host and ``library/`` left out."""
        text = str(self)
        for prefix in (f"{DOCKER_HUB}/library/", f"{DOCKER_HUB}/"):
            if text.startswith(prefix):
                return text[len(prefix) :]
        return text

    @property
    def shortest(self) -> str:
        """The familiar form without the tag that a name has by itself."""
        return self.familiar.removesuffix(":latest")

    def with_digest(self, digest: Digest) -> Reference:
        return replace(self, digest=digest)

    def __str__(self) -> str:
        text = self.repository
        if self.tag:
            text += ":" + self.tag
        if self.digest:
            text += "@" + self.digest
        return text


def _matches(pattern: str, text: str, between: str) -> bool:
    """Whether *text* is of a pattern that any plain words with *between* between them are of."""
    words = text.split(between) if len(text) < 64 else [""]
    if text.isascii() and text == text.lower() and all(map(str.isalnum, words)):
        return True  # without `re`, which takes longer to load than all else of a short command
    import re

    return re.match(pattern, text) is not None


def parse_reference(text: str) -> Reference:
    """Read a name that somebody typed.

    Raises:
        UsageError: it is none.
    """
    try:
        return Reference.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from error
