"""Functions of texts."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from pybuild.bake.hcl.functions.builtin import Builtin, of_one, of_two
from pybuild.bake.hcl.functions.formats import format_list, formatted
from pybuild.bake.hcl.values import Value, ValueProblem, to_list, to_text, to_whole


def _text(of: Callable[[str], Value]) -> Builtin:
    return of_one(lambda value: of(to_text(value)))


def _two(of: Callable[[str, str], Value]) -> Builtin:
    return of_two(lambda one, other: of(to_text(one), to_text(other)))


def _basename(path: str) -> str:
    return posixpath.basename(path.rstrip("/")) or ("/" if path else ".")


def _dirname(path: str) -> str:
    folder = posixpath.normpath(posixpath.dirname(path) or ".")
    return folder.replace("//", "/", 1) if folder.startswith("//") else folder


def _sanitised(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)


def _indent(width: Value, text: Value) -> Value:
    return to_text(text).replace("\n", "\n" + " " * max(0, to_whole(width)))


def _join(separator: Value, *lists: Value) -> Value:
    parts: list[str] = []
    for one in lists:
        for part in to_list(one):
            if part is None:
                raise ValueProblem("a list that is joined must not have null in it")
            parts.append(to_text(part))
    return to_text(separator).join(parts)


def _split(separator: str, text: str) -> Value:
    return list(text.split(separator)) if separator else list(text)


def _substr(text: Value, offset: Value, length: Value) -> Value:
    of, at, count = to_text(text), to_whole(offset), to_whole(length)
    at = at + len(of) if at < 0 else at
    return of[max(0, at) :] if count < 0 else of[max(0, at) : max(0, at) + count]


def _bytes_slice(text: Value, offset: Value, length: Value) -> Value:
    of, at, count = to_text(text).encode(), to_whole(offset), to_whole(length)
    if at < 0 or count < 0 or at + count > len(of):
        raise ValueProblem("offset and length must lie within the text")
    return of[at : at + count].decode(errors="replace")


def _replace(text: Value, old: Value, new: Value) -> Value:
    return to_text(text).replace(to_text(old), to_text(new))


def _title(text: str) -> str:
    return re.sub(r"(?<!\w)\w", lambda match: match[0].upper(), text)


# --- regular expressions --------------------------------------------------------------------------


def _pattern(text: str) -> re.Pattern[str]:
    """Compile a pattern, of the language that Python's and Go's have in common.

    Raises:
        ValueProblem: it is none.
    """
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueProblem(f'invalid regexp pattern "{text}": {error}') from error


def _matched(match: re.Match[str]) -> Value:
    """Return all of a match, or its groups: by name, or in order."""
    if match.re.groupindex:
        return {name: match[name] for name in match.re.groupindex}
    return list(match.groups()) if match.re.groups else match[0]


def _regex(pattern: str, text: str) -> Value:
    match = _pattern(pattern).search(text)
    if match is None:
        raise ValueProblem("pattern did not match any part of the given string")
    return _matched(match)


def _regex_replace(text: Value, pattern: Value, new: Value) -> Value:
    compiled = _pattern(to_text(pattern))

    def substitute(match: re.Match[str]) -> str:
        def group(reference: re.Match[str]) -> str:
            if reference[0] == "$$":
                return "$"
            name = reference[1] or reference[2]
            try:
                return match[int(name) if name.isdigit() else name] or ""
            except IndexError:
                return ""

        return re.sub(r"\$\$|\$\{(\w+)\}|\$(\w+)", group, to_text(new))

    return compiled.sub(substitute, to_text(text))


TEXT_FUNCTIONS: dict[str, Builtin] = {
    "basename": _text(_basename),
    "byteslen": _text(lambda text: len(text.encode())),
    "bytesslice": Builtin(_bytes_slice, 3, 3),
    "chomp": _text(lambda text: text.rstrip("\r\n")),
    "dirname": _text(_dirname),
    "format": Builtin(formatted, 1, -1, nulls=True),
    "formatlist": Builtin(format_list, 1, -1, nulls=True),
    "indent": Builtin(_indent, 2, 2),
    "join": Builtin(_join, 1, -1),
    "lower": _text(str.lower),
    "regex": _two(_regex),
    "regex_replace": Builtin(_regex_replace, 3, 3),
    "regexall": _two(
        lambda pattern, text: [_matched(match) for match in _pattern(pattern).finditer(text)]
    ),
    "replace": Builtin(_replace, 3, 3),
    "reverse": _text(lambda text: text[::-1]),
    "sanitize": _text(_sanitised),
    "split": _two(_split),
    "strlen": _text(len),
    "substr": Builtin(_substr, 3, 3),
    "title": _text(_title),
    "trim": _two(lambda text, characters: text.strip(characters)),
    "trimprefix": _two(lambda text, prefix: text.removeprefix(prefix)),
    "trimspace": _text(str.strip),
    "trimsuffix": _two(lambda text, suffix: text.removesuffix(suffix)),
    "upper": _text(str.upper),
}
