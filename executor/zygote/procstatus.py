"""The numbers that the kernel tells of a process in ``/proc/PID/status``."""

from __future__ import annotations


def number(name: str, process: int | str = "self", base: int = 16) -> int:
    """Return the number of the line *name*, 0 where there is no such line.

    Sets of capabilities and of signals are masks in hexadecimal.

    Raises:
        OSError: it cannot be read, such as that of a process that is gone.
    """
    with open(f"/proc/{process}/status", encoding="utf-8", errors="replace") as status:
        for line in status:
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0], base)
    return 0


def catches(process: int, signal: int) -> bool:
    """Return whether *process* has a handler for *signal*."""
    try:
        return bool(number("SigCgt", process) >> (signal - 1) & 1)
    except OSError:
        return False
