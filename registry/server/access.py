"""Rules of who may do what in which repository; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pybuild.cache.repositories.repositories import is_name
from pybuild.model.dataclass import dataclass
from pybuild.registry.server.routes import Permission

EVERYBODY = "anonymous"
LOGGED_IN = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Lets *users* do *actions* in *repositories*.

    Attributes:
        users: names; ``*`` is everybody who logged in, ``anonymous`` everybody else as well.
        repositories: patterns in which ``*`` is any text, slashes too, and ``$user`` the name, if
            it can be one part of a repository's.
    """

    users: tuple[str, ...]
    repositories: tuple[str, ...]
    actions: frozenset[Permission]


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        name: "" for who did not log in.
        granted: the (repository, action) pairs of a token; None: no token limits the caller.
    """

    name: str = ""
    granted: frozenset[tuple[str, Permission]] | None = None
    catalog: bool = True


ALL = Rule(users=(EVERYBODY,), repositories=("*",), actions=frozenset(Permission))
MEMBERS = Rule(users=(LOGGED_IN,), repositories=("*",), actions=frozenset(Permission))


@dataclass(frozen=True, slots=True)
class Access:
    """All rules of a server; what none of them allows is forbidden."""

    rules: Sequence[Rule] = (ALL,)

    def allows(self, user: str, repository: str, action: Permission) -> bool:
        """Return whether *user* ("" for nobody in particular) may."""
        return any(
            action in rule.actions and _is_one(user, rule) and _is_in(repository, user, rule)
            for rule in self.rules
        )

    def permits(self, caller: Caller, repository: str, action: Permission) -> bool:
        """Return whether *caller* may: by the rules, and by the token where there is one."""
        if caller.granted is not None:
            return (repository, action) in caller.granted
        return self.allows(caller.name, repository, action)

    def lists(self, user: str) -> bool:
        """Return whether *user* may see the catalog: of what they may pull."""
        return any(Permission.PULL in rule.actions and _is_one(user, rule) for rule in self.rules)


def _is_one(user: str, rule: Rule) -> bool:
    return EVERYBODY in rule.users or (
        bool(user) and (user in rule.users or LOGGED_IN in rule.users)
    )


def _is_in(repository: str, user: str, rule: Rule) -> bool:
    return any(_matches(pattern, repository, user) for pattern in rule.repositories)


def _matches(pattern: str, repository: str, user: str) -> bool:
    if "$user" in pattern:
        if "/" in user or not is_name(user):
            return False  # it would be more than one part of a name, or a pattern itself
        pattern = pattern.replace("$user", user)
    text = ".*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(text, repository) is not None
