"""Text of others as terminals may see it: file names, commands, logs and answers are whatever somebody wrote."""

from __future__ import annotations

import os
import re

# Control sequences, then other escapes, among them the beginnings of titles, clipboards, links and
# device control: their text stays to be seen, so that nothing can be hidden in it. Then single
# controls; characters that turn the direction of a line or end it; letters nobody can see that spell
# ASCII; and bytes that were no text, which would be written as the bytes they were.
_COMMAND = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"
    "|\x1b[ -/]*[0-~]"
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    "|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)
_COLOUR = re.compile("\x1b\\[[0-9;:]{0,60}m")
_NO_COLOUR = "\x1b[0m"


def without_controls(text: str) -> str:
    """Take out what commands a terminal or misleads who reads it, but for tabs and line ends."""
    return _COMMAND.sub("", text)


def with_colours(line: str) -> str:
    """Do the same and keep colours, none of which lasts longer than the line."""
    if "\x1b" not in line:
        return without_controls(line)
    kept = _COMMAND.sub(lambda match: match[0] if _COLOUR.fullmatch(match[0]) else "", line)
    return kept + _NO_COLOUR if "\x1b" in kept else kept


def printable(text: str) -> str:
    """Return *text* with what does not print escaped, so that no two texts look alike by it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(os.fsencode(char))[2:-1] for char in text)


def in_log(text: str) -> str:
    """Return *text* as a log has it: printable, and no line of it begins as an entry of ours does."""
    return "\n| ".join(printable(line) for line in text.rstrip("\n").split("\n"))
