"""Amounts as people write and read them: sizes and durations [CMD-4, GC-2]."""

from __future__ import annotations

from pybuild.model.errors import UsageError

TYPE_CHECKING = False  # ps and exec load this
if TYPE_CHECKING:
    from collections.abc import Iterable

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _UNITS[_letter] = _UNITS[_letter + "b"] = 1000**_power
    _UNITS[_letter + "ib"] = 1024**_power
# Compiled where they are used: who only writes amounts does not load re.
_SIZE = r"([0-9]{1,40}(?:\.[0-9]{1,40})?)\s*([a-z]*)\Z"
_DURATION = r"(?:[0-9]+(?:\.[0-9]+)?(?:h|ms|m|s|d|w))+\Z"
_PART = r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s|d|w)"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def human_bytes(count: float) -> str:
    """``512B``, ``3.42kB``, ``29.13MB``: powers of 1000, as docker prints them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f}B" if unit == "B" else f"{count:.2f}{unit}"
        count /= 1000
    return f"{count:.2f}TB"


def short_bytes(count: float) -> str:
    """Return ``512B``, ``3.42kB``, ``300kB``: three digits, as docker's lists have them."""
    for unit in ("B", "kB", "MB", "GB"):
        if float(f"{count:.3g}") < 1000:
            return f"{float(f'{count:.3g}'):g}{unit}"
        count /= 1000
    return f"{float(f'{count:.3g}'):g}TB"


def binary_bytes(count: float) -> str:
    """Return ``512B``, ``3.42KiB``, ``300MiB``: powers of 1024 and four digits, as docker has memory."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{float(f'{count:.4g}'):g}{unit}"
        count /= 1024
    return f"{float(f'{count:.4g}'):g}TiB"


def human_age(seconds: float) -> str:
    """Return ``3 minutes ago``, ``About an hour ago``, in docker's words."""
    seconds = max(0.0, seconds)
    hours = int(seconds / 3600 + 0.5)
    if seconds < 60:
        words = _counted(int(seconds), "second") if seconds >= 1 else "Less than a second"
    elif seconds < 3600:
        minutes = int(seconds // 60)
        words = "About a minute" if minutes == 1 else f"{minutes} minutes"
    elif hours < 48:
        words = "About an hour" if hours == 1 else f"{hours} hours"
    elif hours < 24 * 14:
        words = f"{hours // 24} days"
    elif hours < 24 * 60:
        words = f"{hours // 168} weeks"
    elif hours < 24 * 730:
        words = f"{hours // 720} months"
    else:
        words = f"{int(seconds // 31_536_000)} years"
    return f"{words} ago"


def human_duration(seconds: float) -> str:
    """Return ``1.4s``, ``3m 12s``, as docker's history has it."""
    if seconds < 60:
        return f"{max(0.0, seconds):.1f}s"
    return f"{int(seconds // 60)}m {int(seconds % 60):2}s"


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}{'' if count == 1 else 's'}"


def parse_size(text: str, disk_bytes: int) -> int:
    """Return bytes: ``10GB``, ``512MiB``, ``1.5g``, ``20%`` of *disk_bytes*, or a bare number.

    Raises:
        UsageError: not a size.
    """
    import re

    lower = text.strip().lower()
    if lower.endswith("%"):
        match = re.match(_SIZE, lower[:-1])
        if match and not match[2] and float(match[1]) <= 100:
            return int(disk_bytes * float(match[1]) / 100)
    match = re.match(_SIZE, lower)
    if not match or match[2] not in _UNITS:
        raise UsageError(f'invalid size "{text}"', hints=("write 10GB, 512MiB or 20%",))
    return int(float(match[1]) * _UNITS[match[2]])


def parse_duration(text: str) -> float:
    """Return seconds: ``48h``, ``1h30m``, ``7d``, or a bare number of seconds.

    Raises:
        UsageError: not a duration.
    """
    import re

    lower = text.strip().lower()
    if lower.isdecimal():
        return float(lower)
    if not re.match(_DURATION, lower):
        raise UsageError(f'invalid duration "{text}"', hints=("write 48h, 1h30m or 7d",))
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, lower))


def parse_ages(texts: Iterable[str]) -> dict[str, float]:
    """Return seconds by the names of stages, in lower case, and by "" those of all others.

    Args:
        texts: values of ``--max-age``: ``7d`` or ``STAGE=7d``; of two about the same the last one counts.

    Raises:
        UsageError: one is no age.
    """
    ages: dict[str, float] = {}
    for text in texts:
        stage, _, age = text.rpartition("=")
        if "=" in text and not stage:
            raise UsageError(
                f'invalid --max-age "{text}": no stage', hints=["write 7d or STAGE=7d"]
            )
        ages[stage.lower()] = parse_duration(age)
    return ages


def parse_binary_size(text: str, what: str) -> int:
    """Read ``512``, ``64m``, ``10GB`` as bytes, in powers of 1024 as docker does.

    Raises:
        UsageError: not a size; *what* it is the size of.
    """
    units = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
    lowered = text.strip().lower()
    number = lowered.rstrip("bkmgti")
    unit = lowered[len(number) :].removesuffix("b").removesuffix("i")
    try:
        size = float(number) * units[unit]
        if not 0 <= size < 1 << 63:  # nor inf, which float() knows
            raise ValueError
    except (ValueError, KeyError):
        raise UsageError(f'invalid {what} "{text}": expected a size such as 64m') from None
    return int(size)


class Duration(int):
    """Nanoseconds, which Go prints as ``1h0m0s``: what templates show of docker's documents."""

    def __str__(self) -> str:
        ns = abs(int(self))
        for size, unit in ((1_000, "ns"), (1_000_000, "µs"), (1_000_000_000, "ms")):
            if 0 < ns < size:
                return f"{'-' if self < 0 else ''}{ns / (size // 1_000):.9g}{unit}"
        minutes, rest = divmod(ns, 60_000_000_000)
        text = f"{rest // 1_000_000_000}.{rest % 1_000_000_000:09}".rstrip("0").rstrip(".") + "s"
        if minutes:
            text = f"{minutes % 60}m{text}"
        if minutes >= 60:
            text = f"{minutes // 60}h{text}"
        return f"-{text}" if self < 0 else text
