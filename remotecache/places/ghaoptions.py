"""The place of a cache in GitHub's Actions cache, or a service like it: attributes as BuildKit has them [CCH-4]."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import field
from urllib.parse import urlsplit

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.jsontext import as_object

SOURCE = frozenset(
    ("scope", "url", "url_v2", "version", "token", "timeout", "ghtoken", "repository")
)
TARGET = SOURCE
_MOST_SCOPES = 16
_MAY_WRITE = 2
_PATIENCE_S = 600.0
_GITHUBS = "results-receiver.actions.githubusercontent.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class GhaPlace:
    """One cache of a repository.

    Attributes:
        scope: the name of ours among the caches of that repository.
        url: of the service, without the path of its methods; empty where there is none.
        token: of the job, which says what it may read and write.
        is_second: whether the service speaks the second version of its protocol.
        patience_s: how long a service that asks for patience is waited for.
    """

    scope: str = "buildkit"
    url: str = ""
    token: str = field(default="", repr=False)
    is_second: bool = True
    patience_s: float = _PATIENCE_S

    def __str__(self) -> str:
        return f"gha:{self.scope}"


@dataclass(frozen=True, slots=True)
class GhaRights:
    """The rights of a job's token.

    Attributes:
        readable: the scopes of branches that it may read, its own first.
        writable: the one that it may write; None: none.
        expires: seconds since the epoch; 0 where it does not say.
    """

    readable: tuple[str, ...]
    writable: str | None
    expires: float


def gha_place(attrs: Mapping[str, str], role: str) -> GhaPlace:
    """Read the attributes of a ``gha`` cache, completed from the environment by `with_job`.

    Raises:
        UsageError: one is wrong.
    """
    version = attrs.get("version", "")
    if version not in ("", "1", "2"):
        raise UsageError(f'gha cache {role}: version="{version}": 1 or 2')
    second = attrs.get("url_v2", "") if version != "1" else ""
    url = second or attrs.get("url", "")
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise UsageError(f'gha cache {role}: url="{url}": expected http:// or https://')
    return GhaPlace(
        scope=attrs.get("scope") or "buildkit",
        url=url.rstrip("/"),
        token=attrs.get("token", ""),
        is_second=bool(second) or version == "2" or urlsplit(url).hostname == _GITHUBS,
        patience_s=_patience(attrs, role),
    )


def with_job(attrs: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return *attrs* with the service and the token of the job that runs here, where they are not given."""
    completed = dict(attrs)
    is_second = completed.get("version") == "2"
    if "version" not in completed and environ.get("ACTIONS_CACHE_SERVICE_V2", "").lower() in (
        *("1", "t", "true"),
    ):
        completed["version"], is_second = "2", True
    names = {"token": ("ACTIONS_RUNTIME_TOKEN",), "url": ("ACTIONS_CACHE_URL",)}
    if is_second:
        names |= {"url_v2": ("ACTIONS_RESULTS_URL",)}
    for name, variables in names.items():
        value = next((environ[one] for one in variables if environ.get(one)), "")
        if value and not completed.get(name):
            completed[name] = value
    return completed


def read_rights(token: str) -> GhaRights:
    """Return the rights that a token names; the service alone checks whether that is true.

    Raises:
        UsageError: it is no token of a job.
    """
    try:
        text = token.split(".")[1]
        claims = as_object(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
        scopes = json.loads(claims["ac"])
        named = [(str(one["Scope"]), int(one["Permission"])) for one in scopes[:_MOST_SCOPES]]
        expires = float(claims.get("exp") or 0)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UsageError(
            "the token of the gha cache is none of a job's",
            hints=["leave token= out, and ACTIONS_RUNTIME_TOKEN of the job is taken"],
        ) from error
    writable = [scope for scope, rights in named if rights & _MAY_WRITE]
    return GhaRights(
        readable=tuple(scope for scope, _ in named),
        writable=writable[-1] if writable else None,
        expires=expires,
    )


def _patience(attrs: Mapping[str, str], role: str) -> float:
    if not attrs.get("timeout"):
        return _PATIENCE_S
    from pybuild.model.amounts import parse_duration

    try:
        return parse_duration(attrs["timeout"])
    except UsageError as error:
        raise UsageError(f"gha cache {role}: timeout: {error.message}") from error
