"""Parse a word that may hold quotes, escapes and variables into a tree [EXP].

The grammar is ``grammar/expansion.lark``. It has a lexer of its own because the contextual one cannot
know what ends a text: that asks the parser's state, but right behind a variable that state is the
same inside ``${x:-…}`` and outside, as LALR merges it, while ``}`` is not. A stack of modes, as shells
have it, knows. Neither the lexer nor the parser recurses, so depth costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pybuild.frontend.syntax.lalr import Grammar, Token
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError

# More pieces than this in one text is an attack on the builder's time.
MAX_TOKENS = 200_000

_CACHED_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class Quoted:
    """``"…"``."""

    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Braced:
    """``${name}`` with operator empty, else with one word behind it, for a replacement two."""

    name: str
    operator: str
    words: tuple[list[Part], ...]


Part = Token | Quoted | Braced


def parse_word(word: str, escape: str, is_body: bool) -> list[Part]:
    """Return the parts of *word*; with *is_body*, of a heredoc body, where quotes are text [HD-6].

    Raises:
        UserError: [EXP-5, EXP-7, EXP-12, EXP-15].
    """
    if len(word) > _CACHED_LENGTH:
        return _parse(word, escape, is_body)
    return _parse_cached(word, escape, is_body)


def _parse(word: str, escape: str, is_body: bool) -> list[Part]:
    grammar, lexer = _parser(escape)
    parts: list[Part] = grammar.parse_tokens(lexer.lex(word, is_body), _build)
    return parts


# The same words are expanded for each platform, each trigger and each progress name.
_parse_cached = lru_cache(maxsize=1024)(_parse)


@lru_cache(maxsize=2)
def _parser(escape: str) -> tuple[Grammar, _ModeLexer]:
    grammar = Grammar("expansion", escape)
    return grammar, _ModeLexer(grammar.patterns)


def _build(rule: str, parts: list[Any]) -> Any:
    """Make a node of the tree."""
    match rule:
        case "start" | "word":
            return parts
        case "double_quoted":
            return Quoted(parts)
        case "plain":
            return Braced(parts[0][2:], "", ())
        case _:
            brace, operator, *words = parts
            return Braced(brace[2:], str(operator), tuple(words))


# Mode: terminals in order of precedence. Where the first fits, the others are not looked at.
_OUTSIDE = ("ESCAPED", "SINGLE_QUOTED", "_QUOTE", "PARAMETER", "HEREDOC_MARK")
_MODES = {
    "word": ("TEXT", *_OUTSIDE, "CHAR"),
    "body": ("BODY_TEXT", "ESCAPED", "PARAMETER", "CHAR"),
    "quoted": ("QUOTED_TEXT", "QUOTED_ESCAPED", "_QUOTE_END", "PARAMETER", "CHAR"),
    "head": ("_BRACE_END", "CONDITION", "TRIM", "REPLACE"),
    "brace": ("BRACE_TEXT", "_BRACE_END", *_OUTSIDE, "CHAR"),
    "pattern": ("PATTERN_TEXT", "_SLASH", *_OUTSIDE, "CHAR"),
    # The same inside a heredoc body.
    "body-brace": ("BRACE_TEXT", "_BRACE_END", "ESCAPED", "PARAMETER", "CHAR"),
    "body-pattern": ("PATTERN_TEXT", "_SLASH", "ESCAPED", "PARAMETER", "CHAR"),
}


class _ModeLexer:
    """Feeds the parser with the grammar's terminals, chosen by what is open at the place."""

    def __init__(self, patterns: Mapping[str, str]) -> None:
        self._modes = {
            mode: re.compile("|".join(f"(?P<{name}>{patterns[name]})" for name in names))
            for mode, names in _MODES.items()
        }
        self._brace = re.compile(patterns["BRACE"])

    def lex(self, text: str, is_body: bool) -> Iterator[Token]:
        """Cut *text* in pieces.

        Raises:
            UserError: what is opened is not closed, or a modifier is none.
        """
        modes = ["body" if is_body else "word"]
        prefix = "body-" if is_body else ""
        at, end, count = 0, len(text), 0
        while at < end:
            count += 1
            if count > MAX_TOKENS:
                raise UserError(f"more than {MAX_TOKENS} variables, quotes and escapes in one text")
            if text.startswith("${", at) and modes[-1] != "head":
                match = self._brace.match(text, at)
                if match is None:
                    raise _bad_brace(text, at + 2)
                yield Token.make("BRACE", match[0])
                modes.append("head")
                at = match.end()
                continue
            match = self._modes[modes[-1]].match(text, at)
            if match is None:  # only a head can refuse
                raise _bad_modifier(text, at)
            kind = str(match.lastgroup)
            if kind == "CHAR" and not is_body and match[0] in "'":
                raise _unclosed(modes, "single-quote")
            yield Token.make(kind, match[0])
            at = match.end()
            if kind == "_QUOTE":
                modes.append("quoted")
            elif kind in ("_QUOTE_END", "_BRACE_END"):
                modes.pop()
            elif kind in ("CONDITION", "TRIM"):
                modes[-1] = prefix + "brace"
            elif kind == "REPLACE":
                modes[-1] = prefix + "pattern"
            elif kind == "_SLASH":
                modes[-1] = prefix + "brace"
        if len(modes) > 1:
            raise _unclosed(modes, "double-quote")


def _unclosed(modes: list[str], quote: str) -> UserError:
    """The outermost open thing is named, except that a brace is worse than a quote [EXP-5, 7]."""
    for mode in modes:
        if mode.endswith("pattern"):
            return UserError("syntax error: missing '/' in ${}")
        if mode == "head" or mode.endswith("brace"):
            return _missing_brace()
    hint = "close the quote, or write \\ before one that is meant as it stands"
    message = f"unexpected end of statement while looking for matching {quote}"
    return UserError(message, hints=(hint,))


def _missing_brace() -> UserError:
    return UserError("syntax error: missing '}'", hints=("close it: ${NAME}",))


def _bad_brace(text: str, at: int) -> UserError:
    follows = text[at : at + 1]
    if not follows:
        return _missing_brace()
    if follows in "{}:+-/%":
        return UserError("syntax error: bad substitution")
    return UserError(f"unsupported modifier ({follows}) in substitution")


def _bad_modifier(text: str, at: int) -> UserError:
    modifier = text[at : at + 2] if text[at] == ":" else text[at]
    if modifier == ":":
        return _missing_brace()
    return UserError(f"unsupported modifier ({modifier}) in substitution")
