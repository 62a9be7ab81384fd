"""Build the Lark parsers of ``grammar/``, each once a process.

Importing lark costs more than parsing any Dockerfile, and a build whose front end is remembered
parses nothing: import this module where parsing starts, not at the top of anything that is
always loaded.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

from lark import Lark
from lark.lexer import Lexer

from pybuild.frontend.expand import SPACE

# What the grammars write for the escape character of the Dockerfile at hand [DIR-4].
_ESCAPE_SIGN = "⎋"

# And, inside brackets, for white space, of which Python's ``\s`` has its own idea.
_SPACE_SIGN = "␣"


def build(name: str, *, escape: str, lexer: str | type[Lexer], transformer: Any = None) -> Lark:
    """Return the LALR parser of ``grammar/<name>.lark`` for this escape character."""
    text = files("pybuild.grammar").joinpath(f"{name}.lark").read_text(encoding="utf-8")
    text = text.replace(_ESCAPE_SIGN, re.escape(escape))
    return Lark(
        text.replace(_SPACE_SIGN, "".join(f"\\u{ord(char):04x}" for char in SPACE)),
        parser="lalr",
        lexer=lexer,
        transformer=transformer,
        maybe_placeholders=False,
    )
