"""Word expansion: replace variables, remove quotes and escapes [EXP, HD-6].

What a word means; how it is written is in ``frontend/words/expansion.py``. A word that is not used, such
as the default of a variable that is set, is expanded all the same, so its errors count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pybuild.frontend.words.gotext import SPACE, quote
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError

if TYPE_CHECKING:
    from pybuild.frontend.words.expansion import Braced, Part

# No program could be started with more, and doubling a variable line by line must end somewhere.
MAX_RESULT = 64 * 1024 * 1024
_MAX_QUOTED = 1000  # characters of a bad word that its error repeats

_A_SPACE = re.compile(f"[{SPACE}]")

OnUnset = Callable[[str], None]


def expand(
    word: str,
    env: Mapping[str, str],
    *,
    escape: str = "\\",
    keep_quotes: bool = False,
    keep_escapes: bool = False,
    keep_unset: bool = False,
    on_unset: OnUnset | None = None,
) -> str:
    """Return *word* with variables replaced and quotes removed, without splitting it [EXP-17].

    Args:
        env: the environment at this line [EXP-18].
        escape: the file's escape character.
        keep_quotes: leave quotes as written, as progress names do [EXP-16].
        keep_escapes: leave escapes as written.
        keep_unset: leave variables that have no value as written.
        on_unset: called with the name of each variable that has no value [EXP-1].

    Raises:
        UserError: the word is malformed, or demands a variable to be set [EXP-10].
    """
    if not any(char in word for char in ("$", "'", '"', escape)):
        return word
    how = _How(env, escape, keep_quotes, keep_escapes, keep_unset, on_unset)
    return how.text(word, is_body=False)


def expand_words(
    word: str,
    env: Mapping[str, str],
    *,
    escape: str = "\\",
    keep_quotes: bool = False,
    keep_escapes: bool = False,
    keep_unset: bool = False,
    on_unset: OnUnset | None = None,
) -> list[str]:
    """Expand and split at spaces that are not quoted, also those out of variables [EXP-17].

    Empty words vanish, quoted or not. Arguments and errors are those of `expand`.
    """
    how = _How(env, escape, keep_quotes, keep_escapes, keep_unset, on_unset)
    words: list[str] = []
    current = ""
    for text, is_split in how.pieces(word):
        if not is_split:
            current += text
            continue
        first, *others = _A_SPACE.split(text)
        current += first
        for other in others:
            if current:
                words.append(current)
            current = other
    return [*words, current] if current else words


def expand_heredoc(body: str, env: Mapping[str, str], *, on_unset: OnUnset | None = None) -> str:
    """Expand the body of a COPY or ADD heredoc: quotes stay, the escape is always ``\\`` [HD-6]."""
    if "$" not in body and "\\" not in body:
        return body
    return _How(env, "\\", False, False, False, on_unset).text(body, is_body=True)


# A step of expansion asks for a nested word by yielding its own generator and gets the text sent
# back; so words nest to any depth without Python's stack.
_Piece = tuple[str, bool]
_Step = Generator[Any, Any, list[_Piece]]


@dataclass(frozen=True, slots=True)
class _How:
    env: Mapping[str, str]
    escape: str
    keep_quotes: bool
    keep_escapes: bool
    keep_unset: bool
    on_unset: OnUnset | None

    def text(self, word: str, *, is_body: bool) -> str:
        return "".join(text for text, _ in self._run(word, is_body))

    def pieces(self, word: str) -> list[_Piece]:
        """The result in pieces; true with each that may be split at its spaces."""
        return self._run(word, False)

    def _run(self, word: str, is_body: bool) -> list[_Piece]:
        try:
            return self._expanded(word, is_body)
        except UserError as error:
            clipped = word if len(word) <= _MAX_QUOTED else word[:_MAX_QUOTED] + "…"
            message = f"failed to process {quote(clipped)}: {error.message}"
            raise UserError(message, spans=error.spans, hints=error.hints) from None

    def _expanded(self, word: str, is_body: bool) -> list[_Piece]:
        from pybuild.frontend.words.expansion import parse_word  # lark: only when really needed

        steps = [self._word(parse_word(word, self.escape, is_body), self.keep_escapes)]
        answer: str | None = None
        size = 0
        while True:
            try:
                steps.append(steps[-1].send(answer))
                answer = None
            except StopIteration as done:
                steps.pop()
                pieces: list[_Piece] = done.value
                if not steps:
                    return pieces
                answer = "".join(text for text, _ in pieces)
                size += len(answer)
                _check_size(size)

    def _word(self, parts: Iterable[Part], raw: bool) -> _Step:
        from pybuild.frontend.words.expansion import Braced, Quoted

        out: list[_Piece] = []
        size = 0
        for part in parts:
            if isinstance(part, Quoted):
                inner: str = yield self._word(part.parts, raw)
                out.append((f'"{inner}"' if self.keep_quotes else inner, False))
            elif isinstance(part, Braced):
                words: list[str] = []
                for nested in part.words:
                    words.append((yield self._word(nested, part.operator[:1] in "#%/")))
                out.append((self._braced(part, words), True))
            elif part.type == "PARAMETER":
                value = self._value(part[1:])
                out.append((str(part) if value is None and self.keep_unset else value or "", True))
            elif part.type in ("ESCAPED", "QUOTED_ESCAPED"):
                out.append((str(part) if raw else part[1:], False))
            elif part.type == "SINGLE_QUOTED":
                out.append((str(part) if self.keep_quotes else part[1:-1], False))
            else:
                out.append((str(part), part.type != "HEREDOC_MARK"))
            size += len(out[-1][0])
            _check_size(size)
        return out

    def _value(self, name: str) -> str | None:
        value = self.env.get(name)
        if value is None and self.on_unset:
            self.on_unset(name)
        return value

    def _braced(self, part: Braced, words: list[str]) -> str:
        value = self._value(part.name)
        operator = part.operator
        if value is None and self.keep_unset:
            return "${" + part.name + operator + "/".join(words) + "}"
        if not operator:
            return value or ""
        word = words[0]
        if operator[-1] in "-+?":
            is_missing = value is None or (operator[0] == ":" and not value)
            if operator[-1] == "-":
                return word if is_missing else value or ""
            if operator[-1] == "+":
                return "" if is_missing else word
            if is_missing:
                state = "unset" if value is None else "empty"
                raise UserError(f"{part.name}: {word or f'is not allowed to be {state}'}")
            return value or ""
        from pybuild.frontend.globs import Glob  # few Dockerfiles cut words

        glob, value = Glob.parse(word), value or ""
        if operator[0] == "#":
            return glob.without_prefix(value, longest=operator == "##")
        if operator[0] == "%":
            return glob.without_suffix(value, longest=operator == "%%")
        return glob.replace(value, words[1], every=operator == "//", limit=MAX_RESULT)


def _check_size(size: int) -> None:
    if size > MAX_RESULT:
        raise UserError(f"expansion is longer than {MAX_RESULT} characters")
