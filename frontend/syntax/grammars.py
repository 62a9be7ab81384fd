"""Compile a grammar of ``grammar/`` to parse tables, with Lark.

Lark's import and its work on our grammars take longer than parsing any Dockerfile. So the tables are
made once, by ``scripts/grammar-tables``, and lie next to the grammars; `pybuild.frontend.syntax.lalr` reads
them, and comes here only when somebody has changed a grammar since.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from lark import Lark
from lark.grammar import NonTerminal, Terminal

from pybuild.frontend.words.gotext import SPACE

# What the grammars write for the escape character of the Dockerfile at hand [DIR-4].
_ESCAPE_SIGN = "⎋"

# And, inside brackets, for white space, of which Python's ``\s`` has its own idea.
_SPACE_SIGN = "␣"

ESCAPES = ("\\", "`")


def compile_tables(text: bytes) -> dict[str, Any]:
    """Return the tables of a grammar as JSON-able data, the same for the same text.

    - ``source``: digest of the grammar.
    - ``terminals``: for each escape character names and regular expressions, in order of
      precedence; ``ignored``: those that are dropped.
    - ``rules``: what is reduced to, the name to build it under, how many values are taken, which of
      them are kept and whether those are lists to be joined; a name of null joins the result, too.
    - ``states``, the first being the start: for each terminal the state to go to or, negative, the
      inverted number of the rule to reduce by, and for each nonterminal the state that follows;
      ``end``: the state in which everything has been read.

    Raises:
        lark.exceptions.LarkError: it is no LALR(1) grammar.
        ValueError: it uses what these tables have no place for.
    """
    parsers: dict[str, Any] = {escape: _lark(text.decode(), escape) for escape in ESCAPES}
    lark = parsers[ESCAPES[0]]
    table: Any = lark.parser.parser._parse_table
    rules = sorted(lark.rules, key=_rule_key)
    numbers = {rule: number for number, rule in enumerate(rules)}
    order = _reachable(table.states, table.start_states["start"])
    return {
        "source": hashlib.sha256(text).hexdigest(),
        "terminals": {
            escape: [[t.name, t.pattern.to_regexp()] for t in _terminals(lark)]
            for escape, lark in parsers.items()
        },
        "ignored": sorted(lark.ignore_tokens),
        "rules": [_rule(rule) for rule in rules],
        "states": [
            {
                name: order[argument] if isinstance(argument, int) else ~numbers[argument]
                for name, (_, argument) in sorted(table.states[state].items())
            }
            for state in order
        ],
        "end": order[table.end_states["start"]],
    }


# Lark has no types for its tables, hence Any.


def _lark(text: str, escape: str) -> Any:
    text = text.replace(_ESCAPE_SIGN, re.escape(escape))
    text = text.replace(_SPACE_SIGN, "".join(f"\\u{ord(char):04x}" for char in SPACE))
    return Lark(text, parser="lalr", lexer="basic", maybe_placeholders=False)


def _terminals(lark: Any) -> list[Any]:
    """The terminals in the order in which Lark's lexers try them."""

    def precedence(terminal: Any) -> tuple[int, int, int, str]:
        pattern = terminal.pattern
        return (-terminal.priority, -pattern.max_width, -len(pattern.value), terminal.name)

    return sorted(lark.terminals, key=precedence)


def _rule_key(rule: Any) -> tuple[str, str, list[str]]:
    return (str(rule.origin.name), rule.alias or "", [str(item.name) for item in rule.expansion])


def _rule(rule: Any) -> list[Any]:
    if rule.options.expand1 or rule.options.keep_all_tokens or rule.options.empty_indices:
        raise ValueError(f"rule {rule}: an option that the tables do not have")
    origin = str(rule.origin.name)
    kept = [
        [index, isinstance(item, NonTerminal) and _is_inlined(str(item.name))]
        for index, item in enumerate(rule.expansion)
        if not (isinstance(item, Terminal) and item.filter_out)
    ]
    name = None if _is_inlined(origin) else rule.alias or origin
    return [origin, name, len(rule.expansion), kept]


def _is_inlined(name: str) -> bool:
    return name.startswith("_")


def _reachable(states: Mapping[Any, Mapping[str, Any]], start: Any) -> dict[Any, int]:
    """Number the states in an order that depends on nothing but the grammar."""
    order = {start: 0}
    for state in (pending := [start]):
        for _, (_, argument) in sorted(states[state].items()):
            if isinstance(argument, int) and argument not in order:
                order[argument] = len(order)
                pending.append(argument)
    return order
