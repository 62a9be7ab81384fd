"""Find the heredocs that an instruction's line announces [HD-1, HD-2, HD-5]."""

from __future__ import annotations

import re

from pybuild.frontend.syntax.ast import Heredoc
from pybuild.frontend.words.expand import expand_words
from pybuild.model.errors import UserError

# The delimiter may not hold "<", so "<<<word" is none; nor is "<<-" alone, whose "-" is never a name.
_HEREDOC = re.compile(r"(\d*)<<(-?)[\t\n\f\r ]*([^<]*)")


def heredocs_of_line(line: str) -> list[Heredoc]:
    """Return the heredocs of a whole logical line in order, bodies still empty.

    The line is lexed as a shell would. If that fails, as with a lone quote, there are none: the
    shell may yet make sense of it.

    Raises:
        UserError: the delimiter itself has unbalanced quotes.
    """
    try:
        # The escape is "\" whatever the directive says: a shell reads this line [DIR-4].
        words = expand_words(line, {}, keep_quotes=True, keep_escapes=True, keep_unset=True)
    except UserError:
        return []
    return [heredoc for word in words if (heredoc := heredoc_of_word(word))]


def heredoc_of_word(word: str) -> Heredoc | None:
    """Return the heredoc that *word* stands for, quotes and escapes as written, or None."""
    match = _HEREDOC.fullmatch(word)
    if match is None or not match[3]:
        return None
    names = expand_words(match[3], {}, keep_unset=True)
    if len(names) != 1:
        return None
    quoted = expand_words(match[3], {}, keep_unset=True, keep_quotes=True)
    is_quoted = any(quoted[0].count(mark) != names[0].count(mark) for mark in "'\"")
    return Heredoc(
        name=names[0], content="", expand=not is_quoted, chomp=match[2] == "-", fd=match[1]
    )
