"""Path patterns: wildcards of COPY and ADD, ignore files and ``--exclude`` [CP-3, CP-33, IGN-4].

One language for all: ``*`` ``?`` ``[a-z]`` ``[^a]`` and ``\\`` as in Go's ``filepath.Match``,
within one path component; nothing but a written ``/`` matches a slash. `PatternMatcher` adds
``**``, negation, and "a match on a directory covers everything below".

Patterns come with hostile contexts, so none may take more than about length times length steps. A
backtracking engine is tamed by the rule that a glob never needs to move an earlier star once the
text behind it has matched at its first place; atomic groups write that down. The one shape for
which the rule is wrong (``a**b**c``, stars that may cross a slash but need not) is simulated.

Read on the executor's hot path: imports ``re`` and nothing else.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_BAD = "syntax error in pattern"

# Tokens are (kind, source): one character literally or by a regular expression, or a star.
_LITERAL, _CLASS, _STAR, _GLOBSTAR, _GLOBSTAR_SLASH = "literal", "class", "*", "**", "**/"
_Token = tuple[str, str]

# Go's white space, as around the lines of an ignore file; Python's has four separators more.
_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def match(pattern: str, name: str) -> bool:
    """Return whether *pattern*, in which ``**`` is no more than ``*``, matches the whole of *name*.

    Raises:
        ValueError: *pattern* is malformed, also when *name* would already have differed before.
    """
    return re.fullmatch(_segment(_tokens(pattern, globstar=False)), name, re.DOTALL) is not None


def has_wildcard(pattern: str) -> bool:
    """Return whether *pattern* holds anything that is not matched literally; escapes count too."""
    return any(char in pattern for char in "*?[\\")


def clean(path: str) -> str:
    """Return the shortest spelling of *path*: no empty, ``.`` or avoidable ``..`` components."""
    rooted = path.startswith("/")
    kept: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            kept.append(part)
        elif kept and kept[-1] != "..":
            kept.pop()
        elif not rooted:
            kept.append(part)
    joined = "/".join(kept)
    return "/" + joined if rooted else joined or "."


class PatternMatcher:
    """Ordered patterns, of which the last that matches decides [IGN-5].

    An ignore file may have thousands, and a context a million files. So patterns without wildcards are
    looked up rather than tried, and those that begin with a written name are tried below that alone.

    Args:
        patterns: as in an ignore file, cleaned or not; ``!`` in front negates, blanks are skipped.

    Raises:
        ValueError: a pattern is malformed [IGN-7] or a lone ``!`` [E209].
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._rules: list[tuple[bool, Rule]] = []
        for line in patterns:
            text = line.strip(_SPACE)
            negated = text.startswith("!")
            text = text[1:].strip(_SPACE) if negated else text
            if negated and not text:
                raise ValueError('illegal exclusion pattern: "!"')
            text = clean(text).removeprefix("/") if text else ""
            if text:
                try:
                    self._rules.append((negated, Rule(text)))
                except ValueError as error:
                    raise ValueError(f"{error}: {line.strip()!r}") from None
        self.has_negation = any(negated for negated, _ in self._rules)
        self._plain: dict[str, int] = {}
        groups: dict[str, list[tuple[int, Rule]]] = {}
        for number, (_, rule) in enumerate(self._rules):
            if rule.plain is None:
                groups.setdefault(rule.first, []).append((number, rule))
            else:
                self._plain[rule.plain] = number
        is_enough = not self.has_negation
        self._tried = {
            first: _Tried(rules[::-1], is_enough=is_enough) for first, rules in groups.items()
        }

    def matches(self, path: str) -> bool:
        """Return whether *path* or a directory above it is matched; relative, ``/`` between names."""
        last = -1
        if self._plain:
            at = path.find("/")
            while at >= 0:
                last = max(last, self._plain.get(path[:at], -1))
                at = path.find("/", at + 1)
            last = max(last, self._plain.get(path, -1))
        if last >= 0 and not self.has_negation:
            return True
        for first in ("", path.partition("/")[0]):
            tried = self._tried.get(first)
            if tried is not None:
                last = tried.last(path, last)
        return last >= 0 and not self._rules[last][0]

    def can_skip_dir(self, path: str) -> bool:
        """Return whether directory *path* is matched and so is, for certain, everything below it.

        Errs to the side of false: then the directory must be walked, entry by entry [IGN-5].
        """
        if not self.matches(path):
            return False
        parts = path.split("/")
        return not any(negated and rule.may_match_below(parts) for negated, rule in self._rules)


class _Tried:
    """Patterns with wildcards, the last first.

    Most are also one regular expression together, which tries each in a tenth of the time.

    Args:
        is_enough: it does not matter which of them matches.
    """

    def __init__(self, rules: list[tuple[int, Rule]], *, is_enough: bool) -> None:
        self._any: re.Pattern[str] | None = None
        self._is_enough = is_enough
        self._rules = rules
        self._others = [(number, rule) for number, rule in rules if rule.regex is None]

    def last(self, path: str, last: int) -> int:
        """Return the last that matches *path*, or *last* where no later one does."""
        rules = self._rules
        if len(self._others) == len(rules) or self._alternatives().match(path) is None:
            rules = self._others
        elif self._is_enough:
            return rules[0][0]
        for number, rule in rules:
            if number < last:
                break
            if rule.covers(path):
                return number
        return last

    def _alternatives(self) -> re.Pattern[str]:
        if self._any is None:
            regexes = [rule.regex for _, rule in self._rules if rule.regex is not None]
            self._any = re.compile("|".join(f"(?:{regex})" for regex in regexes), re.DOTALL)
        return self._any


class Rule:
    """One compiled pattern.

    Attributes:
        plain: the path that is matched with all below; None where there are wildcards.
        first: the name that each path begins with that is matched; "" if there may be several.
        regex: found at the start of each path that is matched; None where there is no such.
    """

    def __init__(self, pattern: str) -> None:
        self._tokens = tokens = _tokens(pattern, globstar=True)
        kinds = {kind for kind, _ in tokens}
        is_plain = kinds <= {_LITERAL}
        self.plain = "".join(source for _, source in tokens) if is_plain else None
        self._has_globstar = not kinds.isdisjoint({_GLOBSTAR, _GLOBSTAR_SLASH})
        is_glued = any(
            kind in (_GLOBSTAR, _GLOBSTAR_SLASH)
            and tokens[index - 1] != (_LITERAL, "/")
            and tokens[index - 1][0] not in (_GLOBSTAR, _GLOBSTAR_SLASH)
            for index, (kind, _) in enumerate(tokens[:-1])
            if index
        )
        self._takes_slash = any(
            kind == _CLASS and re.fullmatch(source, "/") for kind, source in tokens
        )
        is_simulated = is_glued or self._takes_slash  # no component by component then
        self.regex = None if is_plain or is_simulated else _globstar_regex(tokens)
        self.first = _first_name(tokens)
        self._compiled: re.Pattern[str] | None = None
        self._parts: list[re.Pattern[str]] | None = None

    def covers(self, path: str) -> bool:
        if self.plain is not None:
            return path == self.plain or path.startswith(self.plain + "/")
        if self.regex is None:
            return _simulate(self._tokens, path)
        if self._compiled is None:
            self._compiled = re.compile(self.regex, re.DOTALL)
        return self._compiled.match(path) is not None

    def may_match_below(self, parts: list[str]) -> bool:
        if self._has_globstar or self._takes_slash:
            return True
        if self._parts is None:
            parts_of_it = _split(self._tokens, "/")
            self._parts = [re.compile(_segment(part), re.DOTALL) for part in parts_of_it]
        if len(self._parts) <= len(parts):
            return False
        return all(regex.fullmatch(part) for regex, part in zip(self._parts, parts, strict=False))


def _first_name(tokens: list[_Token]) -> str:
    """Return the text before the first slash, if that is nothing but a name, else ""."""
    name: list[str] = []
    for kind, source in tokens:
        if kind != _LITERAL:
            return ""
        if source == "/":
            return "".join(name)
        name.append(source)
    return "".join(name)


def _tokens(pattern: str, *, globstar: bool) -> list[_Token]:
    tokens: list[_Token] = []
    at, end = 0, len(pattern)
    while at < end:
        char = pattern[at]
        at += 1
        if char == "*" and globstar and pattern[at : at + 1] == "*":
            at += 1
            # A slash behind belongs to the stars: "a/**/b" also matches "a/b".
            eaten = pattern[at : at + 1] == "/"
            at += eaten
            tokens.append((_GLOBSTAR_SLASH if eaten else _GLOBSTAR, ""))
        elif char == "*":
            tokens.append((_STAR, ""))
        elif char == "?":
            tokens.append((_CLASS, "[^/]"))
        elif char == "[":
            source, at = _class(pattern, at, one_name=not globstar)
            tokens.append((_CLASS, source))
        elif char == "\\":
            if at == end:
                raise ValueError(_BAD)
            tokens.append((_LITERAL, pattern[at]))
            at += 1
        else:
            tokens.append((_LITERAL, char))
    return tokens


def _class(pattern: str, at: int, *, one_name: bool) -> tuple[str, int]:
    """Return a class as a regular expression, and the place behind its bracket.

    ``]`` and ``-`` must be escaped to be members and an empty class is malformed, unlike a shell's.
    In a rule it is, as for the peer, a class of regular expressions: it takes a slash for what it
    is, and a range that runs backwards is malformed; within *one_name* it is neither.
    """
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[str] = []
    count = 0
    while not (count and pattern[at : at + 1] == "]"):
        low, at = _class_char(pattern, at)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = _class_char(pattern, at + 1)
        count += 1
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        elif not one_name:
            raise ValueError(_BAD)
    members = "".join(ranges)
    if not one_name:
        return f"[{'^' * negated}{members}]", at + 1
    if negated:
        return f"[^/{members}]", at + 1
    if not ranges:
        return "(?!)", at + 1
    return f"(?!/)[{members}]", at + 1


def _class_char(pattern: str, at: int) -> tuple[str, int]:
    char = pattern[at : at + 1]
    if char in ("", "-", "]"):
        raise ValueError(_BAD)
    if char == "\\":
        at += 1
        char = pattern[at : at + 1]
    if at + 1 >= len(pattern):
        raise ValueError(_BAD)
    return char, at + 1


def _source(token: _Token) -> str:
    return re.escape(token[1]) if token[0] == _LITERAL else token[1]


def _segment(tokens: Sequence[_Token]) -> str:
    """A regular expression for tokens without ``**``; what matches behind a star stays matched."""
    first, *runs = (
        "".join(_source(token) for token in run) for run in _split(tokens, _STAR, by_kind=True)
    )
    if not runs:
        return first
    return first + "".join(f"(?>[^/]*?{run})" for run in runs[:-1]) + f"[^/]*{runs[-1]}"


def _split(tokens: Sequence[_Token], mark: str, *, by_kind: bool = False) -> list[list[_Token]]:
    parts: list[list[_Token]] = [[]]
    for token in tokens:
        if (token[0] == mark) if by_kind else (token == (_LITERAL, mark)):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _globstar_regex(tokens: list[_Token]) -> str:
    """A regular expression that is found at the start of each path that *tokens* cover."""
    end = r"(?=/|\Z)"
    if tokens[0][0] == _GLOBSTAR and all(kind == _LITERAL for kind, _ in tokens[1:]):
        # "**.md" is any path that ends so, not only a file of that name; the peer's special
        # case, and what people write.
        return ".*?" + "".join(map(_source, tokens[1:])) + end
    segments: list[list[_Token]] = [[]]
    for token in tokens:
        if token[0] in (_GLOBSTAR, _GLOBSTAR_SLASH):
            segments.append([])
        else:
            segments[-1].append(token)
    if len(segments) == 1:
        return _segment(segments[0]) + end
    if not segments[-1]:  # stars at the end: everything that begins like this
        segments.pop()
        end = ""
    # The commit to the first place where a segment matches has to include what ends it.
    below = [f"(?>(?:[^/]*/)*?{_segment(segment)})" for segment in segments[1:-1]]
    if len(segments) > 1:
        below.append(f"(?:[^/]*/)*?{_segment(segments[-1])}{end}")
    return f"(?>{_segment(segments[0])})" + "".join(below)


def _simulate(tokens: list[_Token], path: str) -> bool:
    """Match by following all possible places at once, kept as the bits of one integer.

    Bit i of *places* is set when the tokens so far can match the first i characters.
    """
    where: dict[str, int] = {}
    for index, char in enumerate(path):
        where[char] = where.get(char, 0) | 1 << index
    slashes = where.get("/", 0)
    names = (1 << len(path)) - 1 & ~slashes
    places = 1
    for position, (kind, source) in enumerate(tokens):
        if kind == _LITERAL:
            places = (places & where.get(source, 0)) << 1
        elif kind == _CLASS:
            regex = re.compile(source, re.DOTALL)
            members = 0
            for char, bits in where.items():
                if regex.fullmatch(char):
                    members |= bits
            places = (places & members) << 1
        elif kind == _STAR:  # the carry of the addition runs from each place to the end of its name
            places |= ((places & names) + names) ^ names
        elif position == len(tokens) - 1:
            return places != 0
        else:
            lowest = places & -places
            places |= slashes << 1 & ~(lowest - 1) & ~lowest
        if not places:
            return False
    return bool(places & (slashes | 1 << len(path)))
