"""Instruction flags: which exist, which repeat, what their values look like [FLG]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from pybuild.frontend.syntax.ast import Flag
from pybuild.model.errors import UserError
from pybuild.model.suggest import did_you_mean


class ValueKind(Enum):
    """The kind of value that a flag takes."""

    BOOL = "bool"
    STRING = "string"
    LIST = "list"  # a string; may be repeated


_TRANSFER = {
    "chmod": ValueKind.STRING,
    "chown": ValueKind.STRING,
    "exclude": ValueKind.LIST,
    "link": ValueKind.BOOL,
}

FLAGS: Mapping[str, Mapping[str, ValueKind]] = {
    "FROM": {"platform": ValueKind.STRING},
    "RUN": {
        "device": ValueKind.LIST,
        "mount": ValueKind.LIST,
        "network": ValueKind.STRING,
        "security": ValueKind.STRING,
    },
    "COPY": {**_TRANSFER, "from": ValueKind.STRING, "parents": ValueKind.BOOL},
    "ADD": {
        **_TRANSFER,
        "checksum": ValueKind.STRING,
        "keep-git-dir": ValueKind.BOOL,
        "unpack": ValueKind.BOOL,
    },
    "HEALTHCHECK": {
        "interval": ValueKind.STRING,
        "retries": ValueKind.STRING,
        "start-interval": ValueKind.STRING,
        "start-period": ValueKind.STRING,
        "timeout": ValueKind.STRING,
    },
}


def check_flags(words: Iterable[str], instruction: str, escape: str) -> tuple[Flag, ...]:
    """Return the flags of an instruction, given as written and upper-case.

    Raises:
        UserError: unknown, repeated, without value or with a bad one [FLG-3, FLG-4, RUN-5, RUN-6].
    """
    known = FLAGS.get(instruction, {})
    flags: list[Flag] = []
    for word in words:
        shown, has_value, value = unquote(word, escape).partition("=")
        name = shown[2:]
        kind = known.get(name)
        if kind is None:
            guess = did_you_mean(name, known)
            flags_known = ", ".join(f"--{flag}" for flag in sorted(known)) or "none"
            hints = () if guess else (f"{instruction} has {flags_known}",)
            raise UserError(f"unknown flag: {shown}{guess}", hints=hints)
        if kind is not ValueKind.LIST and any(flag.name == name for flag in flags):
            raise UserError(f"duplicate flag specified: {shown}")
        if kind is not ValueKind.BOOL and not has_value:
            raise UserError(f"missing a value on flag: {shown}")
        if kind is ValueKind.BOOL and has_value and not value:
            raise UserError(f"missing a value on flag: {shown}")
        if kind is ValueKind.BOOL and has_value and value.lower() not in ("true", "false"):
            raise UserError(f"expecting boolean value for flag {shown}, not: {value}")
        flags.append(Flag(name=name, value=value if has_value else None))
    return tuple(flags)


def unquote(word: str, escape: str) -> str:
    """Remove quotes and escapes; both quotes allow escapes inside, unlike a shell's [FLG-2]."""
    if "'" not in word and '"' not in word and escape not in word:
        return word
    out: list[str] = []
    quote = ""
    chars = iter(word)
    for char in chars:
        if char == escape:
            out.append(next(chars, ""))
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            out.append(char)
    return "".join(out)
