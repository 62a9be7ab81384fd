"""Go templates of ``--format``, as docker's command line has them: fields, pipes, ``if``, ``range``, ``with``.

Values are those of JSON. What a template cannot have here (``define``, ``template``, ``block``) is
refused by name.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from pybuild.model.errors import UsageError
from pybuild.model.labelstext import LabelsText

_ACTION = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)
_WORD = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)
    |(?P<field>\.(?:\w+(?:\.\w+)*)?)|(?P<variable>\$\w*(?:\.\w+)*)|(?P<name>[A-Za-z]\w*)
    |(?P<close>\)(?:\.\w+)*)|(?P<mark>:=|[(|,=]))""",
    re.VERBOSE,
)
_LEFT = ("json", "split", "join", "title", "lower", "upper", "pad", "truncate")
_BLOCKS = ("if", "range", "with")
_REFUSED = ("define", "template", "block", "break", "continue")

Show = Callable[[object], str]
Functions = Mapping[str, Callable[..., object]]
_Token = tuple[str, str]
_Node = str | tuple[str, str, list["_Node"], list["_Node"]]
"""A text, or a block: its word, its condition, its body and its ``else``; ``put`` has no body."""


def rendered(
    template: str, values: object, show: Show | None = None, *, is_head: bool = False
) -> str:
    """Return *template* with its actions replaced; names are found in any case.

    Args:
        show: makes text of what an action results in; without it as Go does.
        is_head: *values* are titles of columns, which functions leave as they are.

    Raises:
        UsageError: an action that is none, or names nothing.
    """
    nodes = parsed(template)
    functions = {**FUNCTIONS, **dict.fromkeys(_LEFT, _same)} if is_head else FUNCTIONS
    return "".join(_Rendering(functions, show or go_text).of(nodes, values, {"$": values}))


def parsed(template: str) -> list[_Node]:
    r"""Read a template once; ``\t`` and ``\n`` are what they say.

    Raises:
        UsageError: an action is not closed, or a block has no end.
    """
    parts = _parts(template.replace("\\t", "\t").replace("\\n", "\n"))
    nodes, end = _block(parts)
    if end:
        raise UsageError(f'template "{{{{{end}}}}}": there is no block that it belongs to')
    return nodes


def go_text(value: object) -> str:
    """Return a value as Go prints it: ``[a b]``, ``map[k:v]``."""
    if isinstance(value, dict):
        items = sorted(cast("dict[str, object]", value).items())
        return f"map[{' '.join(f'{key}:{go_text(item)}' for key, item in items)}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_text, cast('list[object]', value)))}]"
    if value is None:
        return "<no value>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def go_json(value: object) -> str:
    """Return a value as Go writes it in JSON: no blanks, and nothing that a page would take for a tag."""
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", _json(value))


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# --- reading --------------------------------------------------------------------------------------


def _parts(template: str) -> Iterator[_Token]:
    """Yield ``("text", …)`` and ``("action", …)`` in order."""
    at, trims = 0, False
    for match in _ACTION.finditer(template):
        text = template[at : match.start()]
        text = text.lstrip() if trims else text
        yield "text", text.rstrip() if match[1] else text
        at, trims = match.end(), bool(match[3])
        if not match[2].strip().startswith("/*"):
            yield "action", match[2].strip()
    rest = template[at:]
    if "{{" in rest:
        raise UsageError(
            f'template "{template}": an action has no end', hints=["write }} behind each {{"]
        )
    yield "text", rest.lstrip() if trims else rest


def _block(parts: Iterator[_Token]) -> tuple[list[_Node], str]:
    """Read up to ``end`` or ``else``; return the nodes, and the action that ended them."""
    nodes: list[_Node] = []
    for kind, text in parts:
        word = text.partition(" ")[0]
        if kind == "text":
            nodes.append(text)
        elif word in ("end", "else"):
            return nodes, text
        elif word in _REFUSED:
            raise UsageError(f'template "{{{{{text}}}}}": there is no {word} here')
        elif word in _BLOCKS:
            nodes.append(_opened(word, text.removeprefix(word).strip(), parts, text))
        else:
            nodes.append(("put", text, [], []))
    return nodes, ""


def _opened(word: str, condition: str, parts: Iterator[_Token], text: str) -> _Node:
    body, end = _block(parts)
    other: list[_Node] = []
    if end.startswith("else "):  # ``else if X`` is an ``else`` that holds an ``if X``
        again, _, condition_of_other = end.removeprefix("else").strip().partition(" ")
        return word, condition, body, [_opened(again, condition_of_other, parts, text)]
    if end == "else":
        other, end = _block(parts)
    if end != "end":
        raise UsageError(f'template "{{{{{text}}}}}": it has no {{{{end}}}}')
    return word, condition, body, other


# --- doing ----------------------------------------------------------------------------------------


class _Rendering:
    def __init__(self, functions: Functions, show: Show) -> None:
        self._functions = functions
        self._show = show

    def of(self, nodes: Sequence[_Node], dot: object, names: dict[str, object]) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, str):
                yield node
                continue
            word, text, body, other = node
            names_here, _, expression = text.rpartition(":=")
            targets = [name.strip() for name in names_here.split(",")] if names_here else []
            value = _Expression(expression, dot, names, self._functions).value()
            if word == "range":
                yield from self._each(value, targets, (body, other), dot, names)
                continue
            for name in targets:
                names[name] = value
            if word == "put":
                yield "" if targets else self._show(value)
            elif value:
                yield from self.of(body, value if word == "with" else dot, dict(names))
            else:
                yield from self.of(other, dot, dict(names))

    def _each(
        self,
        value: object,
        targets: list[str],
        blocks: tuple[Sequence[_Node], Sequence[_Node]],
        dot: object,
        names: Mapping[str, object],
    ) -> Iterator[str]:
        items: list[tuple[object, object]] = []
        if isinstance(value, dict):
            items = [*sorted(cast("dict[object, object]", value).items(), key=lambda i: str(i[0]))]
        elif isinstance(value, list):
            items = [*enumerate(cast("list[object]", value))]
        for pair in items:
            given = zip(targets, pair[-len(targets) :] if targets else (), strict=False)
            yield from self.of(blocks[0], pair[1], {**names, **dict(given)})
        if not items:
            yield from self.of(blocks[1], dot, dict(names))


class _Expression:
    """One pipeline, evaluated from the left to the right."""

    def __init__(
        self, text: str, dot: object, names: Mapping[str, object], functions: Functions
    ) -> None:
        self._text = text
        self._functions = functions
        self._dot = dot
        self._names = names
        self._tokens = self._read(text)
        self._at = 0

    def value(self) -> object:
        value = self._pipeline()
        if self._at < len(self._tokens):
            raise self._fault(f'"{self._tokens[self._at][1]}" is out of place')
        return value

    def _read(self, text: str) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while text[at:].strip():
            match = _WORD.match(text, at)
            if match is None:
                raise self._fault(f'"{text[at:].strip()}" cannot be read')
            tokens.append((str(match.lastgroup), str(match[str(match.lastgroup)])))
            at = match.end()
        return tokens

    def _pipeline(self) -> object:
        value = self._command([])
        while self._next() == ("mark", "|"):
            self._at += 1
            value = self._command([value])
        return value

    def _command(self, piped: list[object]) -> object:
        kind, text = self._next()
        if kind == "name" and text not in ("true", "false", "nil"):
            self._at += 1
            arguments = [*self._operands(), *piped]
            if text not in self._functions:
                known = ", ".join(sorted(self._functions))
                raise self._fault(f'there is no function "{text}"', f"there is {known}")
            try:
                return self._functions[text](*arguments)
            except KeyError as error:
                raise self._fault(f'nothing is called "{error.args[0]}"') from None
            except (TypeError, ValueError, IndexError, AttributeError) as error:
                raise self._fault(f"{text} cannot be applied: {error}") from None
        if kind == "field" and text.lower() == ".label":
            return self._label()
        operands = self._operands()
        if len(operands) != 1 or piped:
            raise self._fault("expected {{.Name}}, {{json .Name}} or another action of Go's")
        return operands[0]

    def _label(self) -> object:
        """Return the value of one label, ``.Label "name"``; in a head it is the name."""
        self._at += 1
        names, labels = self._operands(), self._member(self._dot, "Labels")
        if len(names) != 1 or not isinstance(labels, str):
            raise self._fault('expected {{.Label "name"}}')
        known = labels.labels if isinstance(labels, LabelsText) else {str(names[0]): names[0]}
        return known.get(str(names[0]), "")

    def _next(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _operands(self) -> list[object]:
        values: list[object] = []
        while True:
            kind, text = self._next()
            match kind:
                case "text":
                    values.append(json.loads(text) if text[0] == '"' else text[1:-1])
                case "number":
                    values.append(float(text) if "." in text else int(text))
                case "field":
                    values.append(self._walk(self._dot, text))
                case "variable":
                    name, dot, path = text.partition(".")
                    if name not in self._names:
                        raise self._fault(f'there is no variable "{name}"')
                    values.append(self._walk(self._names[name], dot + path))
                case "name" if text in ("true", "false", "nil"):
                    values.append({"true": True, "false": False, "nil": None}[text])
                case "name":  # a function without arguments is none that there is
                    raise self._fault(f'"{text}" is out of place')
                case "mark" if text == "(":
                    self._at += 1
                    inner = self._pipeline()
                    kind, closing = self._next()
                    if kind != "close":
                        raise self._fault("a parenthesis has no end")
                    values.append(self._walk(inner, closing[1:]))
                case _:
                    return values
            self._at += 1

    def _walk(self, value: object, path: str) -> object:
        for name in filter(None, path.split(".")):
            value = self._member(value, name)
        return value

    def _member(self, value: object, name: str) -> object:
        known = cast("dict[str, object]", value) if isinstance(value, dict) else {}
        if name in known:
            return known[name]
        for key, member in known.items():
            if key.lower() == name.lower():
                return member
        raise self._fault(
            f'nothing is called "{name}"', *([f"there is {', '.join(sorted(known))}"] * bool(known))
        )

    def _fault(self, message: str, *hints: str) -> UsageError:
        return UsageError(f'template "{{{{{self._text}}}}}": {message}', hints=hints)


# --- functions ------------------------------------------------------------------------------------


def _index(value: Any, *keys: Any) -> object:
    for key in keys:
        value = value[key]
    return value


def _printf(form: str, *values: Any) -> str:
    shown = iter(values)

    def one(match: re.Match[str]) -> str:
        flags, verb = match[1], match[2]
        if verb == "%":
            return "%"
        value: object = next(shown)
        if verb in "vs":
            value, verb = go_text(value), "s"
        elif verb == "q":
            value, verb = json.dumps(value), "s"
        return f"%{flags}{verb}" % value

    return re.sub(r"%([-+ 0#]*\d*(?:\.\d+)?)([%vsdqxXfeg])", one, form)


def _title(text: str) -> str:
    return re.sub(r"\b\w", lambda match: match[0].upper(), text)


def _and(*values: object) -> object:
    return next((value for value in values if not value), values[-1])


def _or(*values: object) -> object:
    return next((value for value in values if value), values[-1])


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _eq(value: object, *others: object) -> bool:
    return value in others


def _join(items: Sequence[str], between: str) -> str:
    return between.join(items)


def _print(*values: object) -> str:
    return "".join(map(go_text, values))


def _println(*values: object) -> str:
    return " ".join(map(go_text, values)) + "\n"


def _slice(value: Any, start: int = 0, end: int | None = None) -> object:
    return value[start:end]


def _split(text: str, between: str) -> list[str]:
    return text.split(between)


def _truncate(text: str, size: int) -> str:
    return text[:size]


def _same(text: object, *more: object) -> object:
    return text


FUNCTIONS: Functions = {
    "and": _and,
    "eq": _eq,
    "ge": operator.ge,
    "gt": operator.gt,
    "index": _index,
    "join": _join,
    "json": _json,
    "le": operator.le,
    "len": len,
    "lower": str.lower,
    "lt": operator.lt,
    "ne": operator.ne,
    "not": operator.not_,
    "or": _or,
    "pad": _pad,
    "print": _print,
    "printf": _printf,
    "println": _println,
    "slice": _slice,
    "split": _split,
    "title": _title,
    "truncate": _truncate,
    "upper": str.upper,
}
"""The functions of actions: Go's own, and those that docker adds."""
