"""An LALR(1) parser that runs on tables made by Lark: no recursion, linear in the text.

The lexer is contextual as Lark's: in each state only those terminals are looked for that may follow.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from pybuild import grammar

# More terminals than this are looked for by one expression; fewer are quicker one by one, and are
# compiled once for all the states that share them.
_MANY = 8

Build = Callable[[str, list[Any]], Any]
_Scanner = tuple[str, Callable[[str, int], "re.Match[str] | None"]]


class Token(str):
    """A piece of the text; *type* is its terminal's name, *start* where it begins."""

    __slots__ = ("start", "type")

    type: str
    start: int

    @classmethod
    def make(cls, type: str, text: str, start: int = 0) -> Token:
        token = cls(text)
        token.type = type
        token.start = start
        return token


class NoSentence(Exception):
    """The text is no sentence of the grammar; *position* is where it ceases to be one."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class Grammar:
    """The tables of one grammar for one escape character.

    Attributes:
        patterns: of the terminals, as regular expressions.
    """

    def __init__(self, name: str, escape: str) -> None:
        tables = load_tables(name)
        self.patterns: dict[str, str] = dict(tables["terminals"][escape])
        self.ignored = frozenset[str](tables["ignored"])
        self.states: list[dict[str, int]] = tables["states"]
        self.end: int = tables["end"]
        self.rules: list[tuple[str, str | None, int, list[tuple[int, bool]]]] = tables["rules"]
        self._scanners: list[list[_Scanner] | None] = [None] * len(self.states)

    def parse_text(self, text: str, build: Build) -> Any:
        """Return the value that *build* makes of *text*.

        Args:
            build: gets the name and the parts of each rule, inner ones first.

        Raises:
            NoSentence: it cannot be parsed.
        """
        run = _Run(self, build)
        feed, ignored, scanners = run.feed, self.ignored, self._scanners
        at, end = 0, len(text)
        while at < end:
            state = run.states[-1]
            for name, match in scanners[state] or self._scan(state):  # noqa: B007
                token_match = match(text, at)
                if token_match is not None:
                    break
            else:
                raise NoSentence(at)
            name = name or str(token_match.lastgroup)
            stop = token_match.end()
            if name not in ignored:
                feed(name, Token.make(name, text[at:stop], at))
            at = stop
        return run.finish()

    def parse_tokens(self, tokens: Iterable[Token], build: Build) -> Any:
        """Do the same for a text that somebody else has cut in pieces."""
        run = _Run(self, build)
        for token in tokens:
            run.feed(token.type, token)
        return run.finish()

    def _scan(self, state: int) -> list[_Scanner]:
        """The terminals that can follow in *state*, in order of precedence."""
        names = [n for n in self.patterns if n in self.states[state] or n in self.ignored]
        if len(names) > _MANY:
            every = "|".join(f"(?P<{name}>{self.patterns[name]})" for name in names)
            scanners: list[_Scanner] = [("", _compiled(every).match)]
        else:
            scanners = [(name, _compiled(self.patterns[name]).match) for name in names]
        self._scanners[state] = scanners
        return scanners


@lru_cache(maxsize=128)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


class _Run:
    """One parse: a stack of states, and the values of what led to them."""

    __slots__ = ("_build", "_end", "_rules", "_table", "_values", "states")

    def __init__(self, grammar: Grammar, build: Build) -> None:
        self._table = grammar.states
        self._rules = grammar.rules
        self._end = grammar.end
        self._build = build
        self._values: list[Any] = []
        self.states = [0]

    def feed(self, name: str, token: Token) -> None:
        states = self.states
        while True:
            action = self._table[states[-1]].get(name)
            if action is None:
                raise NoSentence(token.start)
            if action >= 0:
                states.append(action)
                self._values.append(token)
                return
            self._reduce(~action)

    def finish(self) -> Any:
        while self.states[-1] != self._end:
            action = self._table[self.states[-1]].get("$END", 0)
            if action >= 0:
                raise NoSentence(-1)
            self._reduce(~action)
        return self._values[-1]

    def _reduce(self, number: int) -> None:
        origin, name, size, kept = self._rules[number]
        states, values = self.states, self._values
        parts: list[Any] | None = None
        if size:
            first = len(values) - size
            for index, is_list in kept:
                value = values[first + index]
                if not is_list:
                    if parts is None:
                        parts = [value]
                    else:
                        parts.append(value)
                elif parts is None:
                    parts = value  # nobody else has it, and copying would make long lists slow
                else:
                    parts += value
            del values[first:]
            del states[-size:]
        parts = [] if parts is None else parts
        values.append(parts if name is None else self._build(name, parts))
        states.append(self._table[states[-1]][origin])


def load_tables(name: str) -> dict[str, Any]:
    """Return the tables of ``grammar/<name>.lark``, as `pybuild.frontend.syntax.grammars` describes them."""
    text = read_file(f"{name}.lark")
    tables: dict[str, Any] = {}
    try:
        tables = json.loads(read_file(f"{name}.json"))
    except (OSError, ValueError):
        pass  # not there, or not whole
    if tables.get("source") == hashlib.sha256(text).hexdigest():
        return tables
    from pybuild.frontend.syntax.grammars import compile_tables  # and Lark: while a grammar changes

    return compile_tables(text)


def read_file(name: str) -> bytes:
    # What importlib.resources does, without the 15 ms that its import takes.
    loader: Any = grammar.__loader__
    return bytes(loader.get_data(os.path.join(grammar.__path__[0], name)))
