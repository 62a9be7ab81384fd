"""Platforms whose programs run on this machine: its own, and those of registered emulators.

Read from what the kernel says, not by trying: it is asked each time a client looks at the server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pybuild.model.platform import Platform

# What each level of x86-64 demands beyond the one before, as /proc/cpuinfo calls it.
_AMD64_LEVELS = {
    "v2": frozenset(["cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"]),
    "v3": frozenset(["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"]),
    "v4": frozenset(["avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"]),
}
_EMULATED = {
    "qemu-aarch64": ("arm64",),
    "qemu-arm": ("arm/v7", "arm/v6"),
    "qemu-i386": ("386",),
    "qemu-loongarch64": ("loong64",),
    "qemu-mips64": ("mips64",),
    "qemu-mips64el": ("mips64le",),
    "qemu-ppc64le": ("ppc64le",),
    "qemu-riscv64": ("riscv64",),
    "qemu-s390x": ("s390x",),
    "qemu-x86_64": ("amd64",),
}


def runnable(native: Platform, proc: str = "/proc") -> tuple[Platform, ...]:
    """Return the platforms whose programs run here, *native* first.

    Args:
        proc: where the kernel tells of the processor and of emulators.
    """
    names: list[str] = []
    if native.arch == "amd64":
        names += [f"amd64/{level}" for level in _levels(_read(f"{proc}/cpuinfo"))]
        if os.path.exists(f"{proc}/sys/abi/vsyscall32"):  # of kernels that run 32-bit programs
            names.append("386")
    handlers = f"{proc}/sys/fs/binfmt_misc"
    for name, arches in _EMULATED.items():
        if _works(_fields(_read(f"{handlers}/{name}"))):
            names += arches
    platforms = [native, *(Platform.parse(f"linux/{name}") for name in names)]
    return tuple(dict.fromkeys(platforms))


def _levels(cpuinfo: str) -> list[str]:
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    flags = frozenset(
        next((value for key, _, value in lines if key.strip() == "flags"), "").split()
    )
    levels: list[str] = []
    for level, features in _AMD64_LEVELS.items():
        if not features <= flags:
            break
        levels.append(level)
    return levels


def _works(handler: Mapping[str, str]) -> bool:
    """Whether a handler is on and has its program open, as there is none in a step's tree."""
    return "enabled" in handler and "F" in handler.get("flags:", "")


def _fields(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (line.partition(" ") for line in text.splitlines())}


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
