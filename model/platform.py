"""Platforms: ``os/arch[/variant]`` with Go's names [IMG-19, IMG-20]."""

from __future__ import annotations

from pybuild.model.dataclass import dataclass
from pybuild.model.suggest import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


_ARCH_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
}
KNOWN_ARCHES = frozenset(
    ("386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle")
    + ("ppc64", "ppc64le", "riscv64", "s390x", "wasm")
)
KNOWN_OSES = frozenset(("darwin", "freebsd", "linux", "wasi", "windows"))
# Windows can run images of its own build only, and from here on those of the release before, too.
_WINDOWS_RELEASES = (20348, 26100)
_WORD = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


@dataclass(frozen=True, slots=True)
class Platform:
    """One target of an image; always normalised, so equal platforms compare equal.

    Attributes:
        os_version: of Windows, such as ``10.0.20348.1006``.
    """

    os: str
    arch: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def make(cls, os: str, arch: str, variant: str = "", os_version: str = "") -> Platform:
        """Normalise aliases (``x86_64``) and the default variants (``arm64/v8`` is ``arm64``)."""
        os, arch, variant = os.lower(), arch.lower(), variant.lower()
        if arch in _ARCH_ALIASES:
            arch, implied = _ARCH_ALIASES[arch]
            variant = variant or implied
        if variant and variant[0].isdigit():
            variant = "v" + variant
        if arch == "arm64" and variant == "v8" or arch == "amd64" and variant == "v1":
            variant = ""
        if arch == "arm" and not variant:
            variant = "v7"
        return cls(os, arch, variant, os_version)

    @classmethod
    def parse(cls, text: str, default: Platform | None = None) -> Platform:
        """Read ``os[(version)]/arch[/variant]``, or a lone os or arch completed from *default*.

        An architecture of an operating system other than linux need not be a known one.

        Raises:
            ValueError: unknown os or architecture, or too many parts.
        """
        parts = text.split("/")
        name, opened, version = parts[0].partition("(")
        named = _is_word(name, _WORD)
        if opened:
            named = named and version[-1:] == ")" and _is_word(version[:-1], _WORD + ".")
        wrong = [part for part in parts[1:] if not _is_word(part, _WORD + ".")]
        if not named or wrong:
            part = wrong[0] if named else parts[0]
            raise ValueError(
                f'"{part}" is an invalid component of "{text}": platform specifier component'
                ' must match "^[A-Za-z0-9_.-]+$": invalid argument'
            )
        if len(parts) > 3:
            raise ValueError(f'platform "{text}": expected os/arch or os/arch/variant')
        name, version = name.lower(), version[:-1]
        name = "darwin" if name == "macos" else name
        if len(parts) == 1:
            base = default or LINUX_AMD64
            if name in KNOWN_OSES:
                return cls.make(name, base.arch, base.variant, version)
            arch = _ARCH_ALIASES.get(name, (name, ""))[0]
            if arch in KNOWN_ARCHES and not version:
                return cls.make(base.os, name)
            raise ValueError(
                f'platform "{text}": unknown operating system or architecture'
                f" (write os/arch, such as {LINUX_AMD64})"
            )
        platform = cls.make(name, parts[1], parts[2] if len(parts) == 3 else "", version)
        if platform.os not in KNOWN_OSES:
            raise ValueError(f'platform "{text}": unknown operating system "{parts[0]}"')
        if platform.os == "linux" and platform.arch not in KNOWN_ARCHES:
            guess = did_you_mean(parts[1], KNOWN_ARCHES)
            raise ValueError(f'platform "{text}": unknown architecture "{parts[1]}"{guess}')
        return platform

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Platform:
        """Read the ``platform`` object of a descriptor, or the same fields of an image config."""
        return cls.make(
            str(value.get("os", "")),
            str(value.get("architecture", "")),
            str(value.get("variant", "") or ""),
            str(value.get("os.version", "") or ""),
        )

    def to_json(self) -> dict[str, Any]:
        obj = {"architecture": self.arch, "os": self.os}
        if self.os_version:
            obj["os.version"] = self.os_version
        if self.variant:
            obj["variant"] = self.variant
        return obj

    def __str__(self) -> str:
        os = f"{self.os}({self.os_version})" if self.os_version else self.os
        return "/".join(part for part in (os, self.arch, self.variant) if part)

    def rank(self, candidate: Platform) -> int | None:
        """Return the rank of *candidate* for this platform: 0 is exact, higher is worse, None cannot run."""
        if candidate.os != self.os or candidate.arch != self.arch:
            return None
        if self.os == "windows" and not _windows_fits(self.os_version, candidate.os_version):
            return None
        want, have = _variant_level(self), _variant_level(candidate)
        if want is None or have is None:
            return 0 if self.variant == candidate.variant else None
        return want - have if have <= want else None


def _variant_level(platform: Platform) -> int | None:
    implied = {"arm64": "v8", "amd64": "v1", "arm": "v7"}.get(platform.arch, "")
    variant = platform.variant or implied
    if _is_number(variant[1:]):
        return int(variant[1:])
    return None if variant else 0


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9  # Python reads 4,300


def _windows_fits(host: str, image: str) -> bool:
    """Return whether Windows *host* runs an image made for *image*; a part that is missing fits."""
    ours, theirs = _windows_build(host), _windows_build(image)
    if ours is None or not image:
        return True
    if theirs is None or ours[:2] != theirs[:2]:
        return False
    build, other = ours[2], theirs[2]
    if build < _WINDOWS_RELEASES[0]:
        return build == other
    oldest = max((r for r in _WINDOWS_RELEASES if r < build), default=_WINDOWS_RELEASES[0])
    return oldest <= other <= build


def _windows_build(version: str) -> tuple[int, int, int] | None:
    parts = version.split(".")[:3]
    if len(parts) < 3 or not all(map(_is_number, parts)):
        return None
    major, minor, build = map(int, parts)
    return major, minor, build


LINUX_AMD64 = Platform("linux", "amd64")


def _is_word(text: str, letters: str) -> bool:
    """Whether there is a text, of these letters alone; `re` would take longer to load than a command takes."""
    return bool(text) and not text.strip(letters)
