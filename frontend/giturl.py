"""URLs of git repositories as Dockerfiles and contexts write them, and of other remote files [ADD-7].

``https://host/repo.git#ref:subdir``, ``git@host:repo?tag=v1&subdir=src`` and the like. Pure.
"""

from __future__ import annotations

import re

from pybuild.frontend.lowering import paths
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.ops import GitSource
from pybuild.model.text import boolean

_SCHEME = re.compile(r"([a-zA-Z0-9]+)://")
_SCHEMES = frozenset(("http", "https", "ssh", "git"))
_SCP = re.compile(r"([a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:.*?)(?:\?(.*?))?(?:#(.*))?", re.DOTALL)
_HTTP = re.compile(r"https?://")
_SWITCHES = ("submodules", "keep-git-dir", "fetch-by-commit")
UNNAMED = "__unnamed__"
CONTEXT_FILE = "context"
"""The name of a file that is fetched as a context."""


@dataclass(slots=True, kw_only=True)
class GitUrl:
    """A repository and what is wanted of it; None where nothing was said."""

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None
    mtime: str = ""
    fetch_by_commit: bool = False

    def source(self, *, keep_git_dir: bool = False, mtime: str = "") -> GitSource:
        return GitSource(
            remote=self.remote,
            ref=self.ref,
            subdir=paths.clean(self.subdir).strip("/"),
            keep_git_dir=keep_git_dir or bool(self.keep_git_dir),
            checksum=self.checksum,
            submodules=self.submodules is not False,
            # The default and nothing said are the same, and make the same key.
            mtime="commit" if (self.mtime or mtime) == "commit" else "",
            fetch_by_commit=self.fetch_by_commit,
        )


def is_http(text: str) -> bool:
    return _HTTP.match(text) is not None


def parse_git_url(text: str, *, is_context: bool = False) -> GitUrl | None:
    """Return the git repository that *text* names; None when it names none.

    Args:
        is_context: ``github.com/owner/name`` is one, too; elsewhere that is a path [ADD-10].

    Raises:
        UserError: its query or its form is wrong.
    """
    if is_context and text.startswith("github.com/"):
        text = "https://" + text
        is_repository = True
    else:
        is_repository = False
    scheme = _SCHEME.match(text)
    if scheme is None:
        scp = _SCP.fullmatch(text)
        if scp is None:
            return None
        url = GitUrl(remote=scp[1])
        query, fragment = scp[2] or "", scp[3] or ""
    else:
        from urllib.parse import unquote, urlsplit  # most texts name no repository

        name = scheme[1].lower()
        if name not in _SCHEMES:
            return None
        head, _, fragment = text.partition("#")
        remote, _, query = head.partition("?")
        try:
            path, host = unquote(urlsplit(remote).path), urlsplit(remote).hostname
        except ValueError as error:
            raise UserError(f'invalid URL "{text}": {error}') from error
        if name in ("http", "https") and not is_repository and not path.endswith(".git"):
            return None
        if not host:
            raise UserError(f'invalid git repository "{text}": no host')
        url = GitUrl(remote=remote)
        fragment = unquote(fragment)
    url.ref, _, subdir = fragment.partition(":")
    url.subdir = paths.clean(subdir).strip("/")
    _read_query(url, query)
    return url


def without_credentials(url: str) -> str:
    """Return an http(s) URL without its user part, to be shown."""
    if not is_http(url.lower()):
        return url
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path


def file_name(url: str) -> str:
    """Return the name of an http(s) URL's file where it is put into a directory [ADD-4]."""
    from urllib.parse import unquote, urlsplit  # as above

    try:
        name = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    except ValueError:
        return UNNAMED
    return UNNAMED if name in ("", ".", "..") else name


def _read_query(url: GitUrl, query: str) -> None:
    values: dict[str, str] = {}
    from urllib.parse import parse_qsl  # as above

    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in values:
            raise UserError(f'query "{name}" has multiple values')
        values[name] = value
    for name, value in sorted(values.items()):
        if not value and name not in _SWITCHES:
            raise UserError(f'query "{name}" has no value')
        match name:
            case "ref":
                _set(url, "ref", value)
            case "subdir":
                _set(url, "subdir", value)
            case "checksum" | "commit":
                url.checksum = value
            case "keep-git-dir":
                url.keep_git_dir = _boolean(name, value)
            case "submodules":
                url.submodules = _boolean(name, value)
            case "fetch-by-commit":
                url.fetch_by_commit = _boolean(name, value)
            case "mtime" if value in ("checkout", "commit"):
                url.mtime = value
            case "mtime":
                raise UserError(f'invalid mtime value: "{value}" (must be "checkout" or "commit")')
            case "tag" | "branch":
                pass
            case _:
                raise UserError(f'unexpected query "{name}"')
    if "tag" in values:
        _set(url, "ref", "refs/tags/" + values["tag"].removeprefix("refs/tags/"))
    if "branch" in values:
        if "tag" in values:
            raise UserError("branch conflicts with tag")
        _set(url, "ref", "refs/heads/" + values["branch"].removeprefix("refs/heads/"))


def _set(url: GitUrl, name: str, value: str) -> None:
    known = url.ref if name == "ref" else url.subdir
    if known not in ("", value):
        raise UserError(f'{name} conflicts: "{known}" vs "{value}"')
    if name == "ref":
        url.ref = value
    else:
        url.subdir = value


def _boolean(name: str, value: str) -> bool:
    parsed = boolean(value or "true")
    if parsed is None:
        raise UserError(f'invalid {name} value: "{value}"')
    return parsed
