"""The names of steps in progress [UI-1..3, HD-12]."""

from __future__ import annotations

from collections.abc import Mapping

from pybuild.model.platform import Platform


class StepNames:
    """Counts the steps of one stage.

    Attributes:
        stage: its name; empty where the file has only one.
        total: how many steps it has, its base image included; 0: names have no prefix.
    """

    def __init__(self, stage: str, total: int, *, show_platform: bool) -> None:
        self.stage = stage
        self.total = total
        self._show_platform = show_platform
        self._count = 0

    def next(self, platform: Platform, env: Mapping[str, str], *, triggered: bool = False) -> str:
        """Return the prefix of the next step's name: ``[build 2/5] ``."""
        if not self.total:
            return ""
        self._count += 1
        words: list[str] = []
        if self._show_platform:
            words.append(str(platform) + _cross(platform, env))
        if self.stage:
            words.append(self.stage)
        words.append(f"{self._count:{len(str(self.total))}d}/{self.total}")
        return f"[{' '.join(words)}] " + ("ONBUILD " if triggered else "")


def upper_keyword(text: str) -> str:
    """Return *text* with its first word in capitals."""
    keyword, space, rest = text.partition(" ")
    return keyword.upper() + space + rest


def summary(document: str) -> str:
    """Return the first line of a here-document, ``...`` standing for more [HD-12]."""
    first, more, _ = document.strip().replace("\r\n", "\n").partition("\n")
    return first + ("..." if more else "")


def _cross(platform: Platform, env: Mapping[str, str]) -> str:
    """Return ``->arm64`` where the step's variables say that it builds for another platform."""
    target = _target(platform, env)
    if target is None or (target.os, target.arch) == (platform.os, platform.arch):
        return ""
    if target.os != platform.os:
        return f"->{target}"
    return "->" + "/".join(part for part in (target.arch, target.variant) if part)


def _target(platform: Platform, env: Mapping[str, str]) -> Platform | None:
    if "TARGETPLATFORM" in env:
        try:
            return Platform.parse(env["TARGETPLATFORM"])
        except ValueError:
            pass
    parts = [env.get(name, "") for name in ("TARGETOS", "TARGETARCH", "TARGETVARIANT")]
    if not any(parts):
        return None
    return Platform.make(parts[0] or platform.os, parts[1] or platform.arch, parts[2])
