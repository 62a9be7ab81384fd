"""``--graph``: the targets of a command and what they read of one another, for Mermaid and Graphviz."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pybuild.bake.definition import Selected
from pybuild.model.errors import UsageError


def drawn(selected: Selected, form: str) -> str:
    """Return the graph of targets; an arrow leads from one that is read to one that reads it.

    Args:
        form: mermaid or dot.

    Raises:
        UsageError: it is another word.
    """
    drawings: Mapping[str, Callable[[Selected], Iterator[str]]] = {"mermaid": _mermaid, "dot": _dot}
    if form not in drawings:
        raise UsageError(f'invalid --graph "{form}": mermaid or dot', hints=["--graph=mermaid"])
    return "\n".join(drawings[form](selected)) + "\n"


def _arrows(selected: Selected) -> Iterator[tuple[str, str, str]]:
    """Return pairs of a target and one that reads it, each with the name of the context."""
    for name, target in sorted(selected.targets.items()):
        for context, other in sorted(target.links.items()):
            yield other, name, context


def _mermaid(selected: Selected) -> Iterator[str]:
    """Return lines that have numbers for names: ``end`` and others mean something to Mermaid."""
    numbers = {name: f"t{number}" for number, name in enumerate(sorted(selected.targets))}
    yield "flowchart LR"
    for name, number in numbers.items():
        left, right = ("([", "])") if selected.targets[name].is_linked else ("[", "]")
        yield f'    {number}{left}"{name}"{right}'
    for other, name, context in _arrows(selected):
        yield f"    {numbers[other]} -->|{_quoted(context)}| {numbers[name]}"


def _dot(selected: Selected) -> Iterator[str]:
    yield "digraph bake {"
    yield "  rankdir=LR;"
    for name in sorted(selected.targets):
        shape = "ellipse" if selected.targets[name].is_linked else "box"
        yield f'  "{name}" [shape={shape}];'
    for other, name, context in _arrows(selected):
        yield f'  "{other}" -> "{name}" [label={_quoted(context, backslash=True)}];'
    yield "}"


def _quoted(text: str, *, backslash: bool = False) -> str:
    """Return a context's name, which may be any text, in quotes."""
    text = " ".join(text.split())
    if backslash:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return '"' + text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;") + '"'
