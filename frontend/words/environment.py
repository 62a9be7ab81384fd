"""The values of names: ARG and ENV scopes, automatic and proxy arguments [EV]."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pybuild.frontend.syntax import ast
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Arguments that steer the build and never become variables of a step [EV-12].
NOT_EXPORTED = frozenset(("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"))
EPOCH = "SOURCE_DATE_EPOCH"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
_CONTROL = NOT_EXPORTED | {
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SYNTAX",
    EPOCH,
}
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}\Z", re.ASCII)


class Environment(Mapping[str, str]):
    """Variables in the order of their *last* assignment, which is the order steps get them in."""

    __slots__ = ("_entries", "_pairs", "_values")

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})
        self._entries = {name: f"{name}={value}" for name, value in self._values.items()}
        self._pairs: tuple[str, ...] | None = None

    def set(self, name: str, value: str) -> None:
        self._values.pop(name, None)
        self._values[name] = value
        self._entries.pop(name, None)
        self._entries[name] = f"{name}={value}"
        self._pairs = None

    def copy(self) -> Environment:
        copied = Environment()
        copied._values = self._values.copy()
        copied._entries = self._entries.copy()
        copied._pairs = self._pairs
        return copied

    def pairs(self) -> tuple[str, ...]:
        """Return ``NAME=value`` texts, the same tuple for all steps between two changes."""
        if self._pairs is None:
            self._pairs = tuple(self._entries.values())
        return self._pairs

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    if not TYPE_CHECKING:  # what `Mapping` offers, without an exception for each name that is unset

        def get(self, name, default=None):
            return self._values.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


Expand = Callable[[str, Mapping[str, str]], str]


def automatic_args(
    target: Platform, build: Platform, stage: str, build_args: Mapping[str, str]
) -> Environment:
    """Return the platform arguments that every file has, build args taken into account [EV-10]."""
    env = Environment()
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        env.set(prefix + "PLATFORM", str(platform))
        env.set(prefix + "OS", platform.os)
        env.set(prefix + "OSVERSION", platform.os_version)
        env.set(prefix + "ARCH", platform.arch)
        env.set(prefix + "VARIANT", platform.variant)
    env.set("TARGETSTAGE", stage or "default")
    return Environment({name: build_args.get(name, value) for name, value in env.items()})


def add_global_args(
    env: Environment,
    args: tuple[ast.Arg, ...],
    build_args: Mapping[str, str],
    expand: Expand,
) -> Environment:
    """Return *env* with the ARGs before the first FROM [EV-1, EV-2].

    An argument without a value from anywhere stays unset [EV-3]. A default is only expanded when
    it is used [EXP-19].
    """
    env = env.copy()
    for instruction in args:
        for item in instruction.items:
            value = build_args.get(item.name)
            if value is None and item.default is not None:
                try:
                    value = expand(item.default, env)
                except UserError as error:
                    raise error.with_spans((instruction.span,)) from None
            if value is not None:
                env.set(item.name, value)
    return env


def proxy_variables(build_args: Mapping[str, str]) -> tuple[str, ...]:
    """Return the predefined proxy variables, each in both cases [EV-11].

    Where an argument is given in both cases, the lower-case one wins, as it sorts last.
    """
    values = {name.upper(): build_args[name] for name in sorted(build_args)}
    out: list[str] = []
    for name in _PROXIES:
        if values.get(name):
            out += [f"{name}={values[name]}", f"{name.lower()}={values[name]}"]
    return tuple(out)


def parse_epoch(text: str) -> int | None:
    """Read SOURCE_DATE_EPOCH where it is a number; None for anything else."""
    return int(text) if _INTEGER.match(text) else None


def unused_build_args(
    build_args: Mapping[str, str], declared: frozenset[str], automatic: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the build args that nothing in the file or the frontend takes, sorted [EV-8]."""
    return tuple(
        name
        for name in sorted(build_args)
        if name not in declared
        and name not in automatic
        and name not in _CONTROL
        and name.upper() not in _PROXIES
    )
