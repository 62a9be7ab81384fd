"""One logical line to one instruction: what the grammar cannot say is checked here.

The grammar accepts anything behind a known keyword, so that each complaint can be worded for the
instruction it is about. Nothing is expanded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypedDict, cast

from pybuild.frontend.syntax import ast
from pybuild.frontend.syntax.flags import check_flags
from pybuild.frontend.syntax.healthchecks import interval_ns, retries
from pybuild.frontend.syntax.heredocs import heredoc_of_word, heredocs_of_line
from pybuild.frontend.syntax.lalr import Grammar, NoSentence, Token
from pybuild.frontend.words.gotext import SPACE, quote
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import InternalError, UserError
from pybuild.model.span import Span
from pybuild.model.suggest import did_you_mean

KEYWORDS = (
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
)

_KEYWORD = re.compile(r"[^\t\v\f\r ]+")
_WHITE = re.compile(r"[\t\v\f\r ]+")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")


class _Common(TypedDict):
    """The fields of every instruction."""

    span: Span
    keyword: str
    original: str
    comments: tuple[str, ...]
    flags: tuple[ast.Flag, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A logical line that the grammar has read; bodies are still in the file.

    Attributes:
        rule: the grammar's name of the instruction.
        flags: as written.
        args: the words, pairs, list or text behind the flags.
        heredocs: to be given bodies before `instruction` is called.
    """

    text: str
    escape: str
    rule: str
    keyword: str
    flags: tuple[str, ...]
    args: tuple[Token, ...]
    heredocs: tuple[ast.Heredoc, ...] = ()

    @property
    def name(self) -> str:
        """The keyword in upper case."""
        return self.keyword.upper()

    @property
    def rest(self) -> str:
        """The text behind the flags, as written."""
        return self.text[self.args[0].start :] if self.args else ""

    @property
    def is_list(self) -> bool:
        return bool(self.args) and self.args[-1].type == "LIST"


def read_line(text: str, escape: str) -> Line:
    """Parse the text of a logical line and find its heredocs.

    Raises:
        UserError: the instruction is unknown [IN-6].
    """
    stripped = text.strip(SPACE)
    try:
        rule, tokens = _grammar(escape).parse_text(stripped, _named)
    except NoSentence as error:
        match = _KEYWORD.match(stripped)
        keyword = match[0] if match else stripped
        if error.position > 0 or keyword.upper() in KEYWORDS:
            raise InternalError(f"the grammar refused {stripped!r}") from error
        near = did_you_mean(keyword, KEYWORDS, ignore_case=True)
        raise UserError(f"unknown instruction: {keyword}{near}") from None
    keyword_token = tokens.pop(0)
    flags = tuple(str(token) for token in tokens if token.type.endswith("FLAG"))
    line = Line(
        text=stripped,
        escape=escape,
        rule=rule,
        keyword=str(keyword_token),
        flags=flags,
        args=tuple(tokens[len(flags) :]),
    )
    if "<<" in stripped and _may_hold_heredocs(line):
        return replace(line, heredocs=tuple(heredocs_of_line(stripped)))
    return line


def instruction(line: Line, span: Span, comments: tuple[str, ...] = ()) -> ast.Instruction:
    """Return the instruction of *line*, whose heredocs have their bodies by now.

    Raises:
        UserError: without a span; the caller knows best which to add.
    """
    # These three never look at their flags [FLG-5].
    is_lax = line.rule in ("arg", "stopsignal") or (
        line.rule == "healthcheck" and line.args and line.args[0].upper() == "NONE"
    )
    early = _CHECK_FIRST.get(line.rule)
    if early:
        early(line)
    common = _Common(
        span=span,
        keyword=line.keyword,
        original=line.text,
        comments=comments,
        flags=() if is_lax else check_flags(line.flags, line.name, line.escape),
    )
    return _BUILDERS[line.rule](line, common)


def reject_as_trigger(name: str) -> None:
    """Refuse what may not stand behind ONBUILD [OB-1]; *name* in upper case."""
    if name == "ONBUILD":
        raise UserError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if name in ("FROM", "MAINTAINER"):
        hint = f"write {name} without ONBUILD"
        raise UserError(f"{name} isn't allowed as an ONBUILD trigger", hints=(hint,))


@lru_cache(maxsize=2)
def _grammar(escape: str) -> Grammar:
    return Grammar("dockerfile", escape)


def _named(rule: str, tokens: list[Token]) -> tuple[str, list[Token]]:
    return rule, tokens


def _may_hold_heredocs(line: Line) -> bool:
    """RUN, COPY and ADD, not in list form, also behind ONBUILD [HD-1]."""
    if line.rule == "onbuild" and line.args:
        keyword = _KEYWORD.match(line.rest)
        if keyword and keyword[0].upper() in ("RUN", "COPY", "ADD"):
            return not _trigger(line).is_list
    return line.rule in ("run", "copy", "add") and not line.is_list


@lru_cache(maxsize=16)
def _trigger_line(text: str, escape: str) -> Line:
    stripped = text.strip(SPACE)
    keyword = _KEYWORD.match(stripped)
    reject_as_trigger(keyword[0].upper() if keyword else "")
    return read_line(text, escape)


def _trigger(line: Line) -> Line:
    return _trigger_line(line.rest, line.escape)


def _strings(token: Token) -> tuple[str, ...]:
    """The strings of a list; lone halves of surrogate pairs, which are no text, are replaced."""
    items = cast("list[str]", json.loads(token))
    return tuple(
        item
        if item.isascii()
        else item.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        for item in items
    )


def _words(line: Line) -> tuple[str, ...]:
    """The elements of a list, or the words, which no quotes hold together [FRM-7]."""
    if line.is_list:
        return _strings(line.args[0])
    _reject_other_json(line.rest)
    return tuple(str(token) for token in line.args)


def _command(line: Line, args: Sequence[Token], heredocs: tuple[ast.Heredoc, ...]) -> ast.Command:
    """Shell form or exec form; nothing at all is an empty shell text, as for the peer."""
    if not args:
        return ast.Command(args=("",), is_shell=True)
    if args[0].type == "LIST":
        return ast.Command(args=_strings(args[0]), is_shell=False)
    _reject_other_json(args[0])
    return ast.Command(args=(str(args[0]),), is_shell=True, heredocs=heredocs)


def _reject_other_json(text: str) -> None:
    """Refuse a valid JSON array that is no list of strings [FRM-3]; anything else is fine."""
    if not text.startswith("["):
        return
    try:
        value: Any = json.loads(
            text, parse_constant=_no_number, parse_int=_number, parse_float=_number
        )
    except (ValueError, RecursionError):
        return
    if not all(isinstance(item, str) for item in value):
        raise UserError("when using JSON array syntax, arrays must be comprised of strings only")


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value


def _no_number(text: str) -> float:
    raise ValueError(text)


def _text(line: Line) -> str:
    return str(line.args[0]) if line.args else ""


def _need_one(line: Line) -> None:
    if not line.args:
        raise UserError(f"{line.name} requires exactly one argument")


def _need_some(line: Line) -> None:
    if not line.args:
        raise UserError(f"{line.name} requires at least one argument")


def _need_two(line: Line) -> None:
    if len(_words(line)) < 2:
        raise UserError(
            f"{line.name} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )


def _need_stage(line: Line) -> None:
    if len(line.args) == 1:
        return
    if len(line.args) != 3 or line.args[1].lower() != "as":
        raise UserError("FROM requires either one or three arguments")
    if not _STAGE_NAME.fullmatch(line.args[2].lower()):
        raise UserError(
            f"invalid name for build stage: {quote(line.args[2])}, "
            "name can't start with a number or contain symbols"
        )


# What is complained about before the flags are: too few arguments, mostly.
_CHECK_FIRST: dict[str, Callable[[Line], None]] = {
    "from_": _need_stage,
    "copy": _need_two,
    "add": _need_two,
    "maintainer": _need_one,
    "workdir": _need_one,
    "user": _need_one,
    "stopsignal": _need_one,
    "expose": _need_some,
    "volume": _need_some,
    "healthcheck": _need_some,
    "onbuild": _need_some,
    "arg": _need_some,
}


def _from(line: Line, common: _Common) -> ast.From:
    base, *alias = (str(token) for token in line.args)
    stage = ast.From(**common, base=base)
    return replace(
        stage,
        platform=stage.flag("platform") or "",
        name=alias[1].lower() if alias else "",
        name_as_written=alias[1] if alias else "",
        as_keyword=alias[0] if alias else "",
    )


def _arg(line: Line, common: _Common) -> ast.Arg:
    items: list[ast.ArgItem] = []
    for word in line.args:
        name, equals, default = str(word).partition("=")
        if not name:
            raise UserError("ARG names can not be blank")
        items.append(ast.ArgItem(name=name, default=default if equals else None))
    return ast.Arg(**common, items=tuple(items))


def _pairs(line: Line) -> tuple[tuple[ast.KeyValue, ...], bool]:
    """The pairs, and whether they are of the old form ``KEY the rest`` [KV-2, KV-3]."""
    _need_some(line)
    if "=" not in line.args[0]:
        key, *value = _WHITE.split(line.rest, maxsplit=1)
        if not value:
            raise UserError(f"{line.name} must have two arguments")
        return (ast.KeyValue(key=key, value=value[0]),), True
    pairs: list[ast.KeyValue] = []
    for word in line.args:
        key, equals, value_text = word.partition("=")
        if not equals:
            raise UserError(
                f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value"
            )
        if not key:
            raise UserError(f"{line.name} names can not be blank")
        pairs.append(ast.KeyValue(key=key, value=value_text))
    return tuple(pairs), False


def _env(line: Line, common: _Common) -> ast.Env:
    pairs, legacy = _pairs(line)
    return ast.Env(**common, pairs=pairs, legacy=legacy)


def _label(line: Line, common: _Common) -> ast.Label:
    pairs, legacy = _pairs(line)
    return ast.Label(**common, pairs=pairs, legacy=legacy)


def _run(line: Line, common: _Common) -> ast.Run:
    run = ast.Run(**common, command=_command(line, line.args, line.heredocs))
    if run.flag_list("mount"):
        from pybuild.frontend.lowering.mounts import mount_sources

        mount_sources(run)  # what cannot be waits for no target to ask for it
    network, security = run.flag("network"), run.flag("security")
    if network not in (None, "default", "none", "host"):
        raise UserError(f"invalid network mode {quote(network)}")
    if security not in (None, "sandbox", "insecure"):
        raise UserError(f"security {quote(security or '')} is not valid")
    if not run.command.args:
        raise UserError("RUN requires at least one argument")
    if any("\0" in heredoc.content for heredoc in line.heredocs):
        raise UserError("NUL character in a heredoc of RUN")
    return run


def _shell(line: Line, common: _Common) -> ast.Shell:
    command = _command(line, line.args, ())
    if not line.args or not command.args:
        raise UserError("SHELL requires at least one argument")
    if command.is_shell:
        raise UserError("SHELL requires the arguments to be in JSON form")
    return ast.Shell(**common, args=command.args)


def _sources(line: Line) -> tuple[tuple[str | ast.Heredoc, ...], str]:
    """Sources and destination; the n-th heredoc word stands for the n-th body [HD-6, HD-7]."""
    *words, dest = _words(line)
    if line.is_list:
        return tuple(words), dest
    if _heredoc(dest):
        raise UserError(f"{line.name} cannot accept a heredoc as a destination")
    bodies = list(line.heredocs)
    sources: list[str | ast.Heredoc] = []
    for word in words:
        if bodies and _heredoc(word):
            sources.append(bodies.pop(0))
        else:
            sources.append(word)
    if bodies:
        raise UserError(
            f"{line.name} needs the heredoc {quote(bodies[0].name)} written as one word, "
            "without spaces"
        )
    return tuple(sources), dest


def _heredoc(word: str) -> ast.Heredoc | None:
    try:
        return heredoc_of_word(word)
    except UserError:  # a file whose name has a quote in it
        return None


def _copy(line: Line, common: _Common) -> ast.Copy:
    sources, dest = _sources(line)
    return ast.Copy(**common, sources=sources, dest=dest)


def _add(line: Line, common: _Common) -> ast.Add:
    sources, dest = _sources(line)
    return ast.Add(**common, sources=sources, dest=dest)


def _volume(line: Line, common: _Common) -> ast.Volume:
    paths = tuple(path.strip(SPACE) for path in _words(line))
    if not paths:
        raise UserError("VOLUME requires at least one argument")
    if "" in paths:
        raise UserError("VOLUME specified can not be an empty string")
    return ast.Volume(**common, paths=paths)


def _healthcheck(line: Line, common: _Common) -> ast.Healthcheck:
    kind, *args = line.args
    if kind.upper() == "NONE":
        if args:
            raise UserError("HEALTHCHECK NONE takes no arguments")
        return ast.Healthcheck(**common, test=None)
    if kind.upper() != "CMD":
        hint = f"write HEALTHCHECK CMD {line.rest}"
        message = f"Unknown type {quote(kind.upper())} in HEALTHCHECK (try CMD)"
        raise UserError(message, hints=(hint,))
    command = _command(line, args, ())
    if not args or not command.args:
        raise UserError("Missing command after HEALTHCHECK CMD")
    values = {flag.name: flag.value for flag in common["flags"]}
    return ast.Healthcheck(
        **common,
        test=command,
        interval_ns=interval_ns("interval", values.get("interval")),
        timeout_ns=interval_ns("timeout", values.get("timeout")),
        start_period_ns=interval_ns("start-period", values.get("start-period")),
        start_interval_ns=interval_ns("start-interval", values.get("start-interval")),
        retries=retries(values.get("retries")),
    )


def _onbuild(line: Line, common: _Common) -> ast.Onbuild:
    nested = replace(_trigger(line), heredocs=line.heredocs)
    trigger = instruction(nested, common["span"])
    bodies = "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in line.heredocs)
    return ast.Onbuild(**common, text=line.rest + bodies, trigger=trigger)


_BUILDERS: dict[str, Callable[[Line, _Common], ast.Instruction]] = {
    "from_": _from,
    "arg": _arg,
    "env": _env,
    "label": _label,
    "run": _run,
    "copy": _copy,
    "add": _add,
    "volume": _volume,
    "healthcheck": _healthcheck,
    "onbuild": _onbuild,
    "shell": _shell,
    "cmd": lambda line, common: ast.Cmd(**common, command=_command(line, line.args, ())),
    "entrypoint": lambda line, common: ast.Entrypoint(
        **common, command=_command(line, line.args, ())
    ),
    "expose": lambda line, common: ast.Expose(**common, ports=_words(line)),
    "maintainer": lambda line, common: ast.Maintainer(**common, author=_text(line)),
    "workdir": lambda line, common: ast.Workdir(**common, path=_text(line)),
    "user": lambda line, common: ast.User(**common, user=_text(line)),
    "stopsignal": lambda line, common: ast.StopSignal(**common, signal=_text(line)),
}
