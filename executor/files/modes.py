"""Permission bits as ``--chmod`` writes them: octal, or as chmod(1) does, ``u=rwX,go-w`` [CP-22]."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def parse(text: str) -> Callable[[int, bool], int]:
    """Return the function that *text* means: old permission bits and "is a directory" to new bits.

    Raises:
        ValueError: not a mode.
    """
    if text[:1].isdigit():
        if len(text) > 16 or not all(c in "01234567" for c in text) or int(text, 8) > 0o7777:
            raise ValueError(_complaint(text))
        number = int(text, 8)
        return lambda _old, _is_dir: number
    clauses = [_clause(clause, text) for clause in text.split(",")]

    def change(old: int, is_dir: bool) -> int:
        # X asks what the file was before the first clause, as BSD's chmod does.
        can_execute = is_dir or bool(old & 0o111)
        mode = old & 0o7777
        for who, operations in clauses:
            for operator, perms in operations:
                mode = _apply(mode, who, operator, perms, can_execute)
        return mode

    return change


def _clause(clause: str, text: str) -> tuple[str, list[tuple[str, str]]]:
    """Read ``who op perms op perms …``."""
    at = 0
    while at < len(clause) and clause[at] in "ugoa":
        at += 1
    who, rest = clause[:at], clause[at:]
    operations: list[tuple[str, str]] = []
    while rest:
        operator, at = rest[0], 1
        while at < len(rest) and rest[at] in "rwxXstugo":
            at += 1
        if operator not in "+-=":
            raise ValueError(_complaint(text))
        operations.append((operator, rest[1:at]))
        rest = rest[at:]
    if not operations:
        raise ValueError(_complaint(text))
    return who, operations


def _apply(mode: int, who: str, operator: str, perms: str, can_execute: bool) -> int:
    classes = "ugo" if not who or "a" in who else who
    special = who in ("", "a") or "u" in who or "g" in who or "a" in who
    bits = 0
    for perm in perms:
        if perm in _BITS or (perm == "X" and (can_execute or operator == "-")):
            value = _BITS.get(perm, 1)
            bits |= sum(value << _SHIFT[c] for c in set(classes))
        elif perm in _SHIFT:
            value = mode >> _SHIFT[perm] & 7
            bits |= sum(value << _SHIFT[c] for c in set(classes))
        elif perm == "s" and special:
            bits |= (0o4000 if "u" in classes else 0) | (0o2000 if "g" in classes else 0)
        elif perm == "t" and special:
            bits |= 0o1000
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    kept = sum(7 << _SHIFT[c] for c in set(classes))
    kept |= (0o4000 if "u" in classes else 0) | (0o2000 if "g" in classes else 0)
    kept |= 0o1000 if "t" in perms and special else 0
    return mode & ~kept | bits


def _complaint(text: str) -> str:
    return f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
