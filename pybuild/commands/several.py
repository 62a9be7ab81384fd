"""Commands about several things: one failure keeps no other from its turn."""

from __future__ import annotations

import sys

from pybuild.model.amounts import short_bytes
from pybuild.model.errors import PybuildError, UsageError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from pybuild.commandline.parser import Parsed

Verb = tuple["Callable[[Parsed, list[str]], int]", str, int, int]
"""A subcommand: its function, its arguments as people write them, and how many of them at least and at most."""


def for_each(names: Iterable[str], act: Callable[[str], object]) -> int:
    """Do it to each and print what *act* returns, its name for None, and nothing for False.

    Raises:
        PybuildError: the first failure, with the words of the others.
    """
    failed: list[PybuildError] = []
    for name in names:
        try:
            result = act(name)
            if result is not False:
                print(result if isinstance(result, str) else name, flush=True)
        except PybuildError as error:
            failed.append(error)
    raise_first(failed)
    return 0


def raise_first(failed: Sequence[PybuildError]) -> None:
    """Raise the first of the failures, if there are any, with the words of the others."""
    if failed:
        raise failed[0].copy_with(message="; ".join(error.message for error in failed))


def show_documents(
    form: str, names: Iterable[str], look: Callable[[str], Mapping[str, Any]]
) -> int:
    """Print the descriptions as ``--format`` says, of what is there also where another one is not.

    Raises:
        UserError: the first that is not there.
    """
    documents: list[Mapping[str, Any]] = []
    missing: UserError | None = None
    for name in names:
        try:
            documents.append(look(name))
        except UserError as error:
            missing = missing or error
    from pybuild.model.gotemplate import go_json, rendered

    if form and form != "json":
        lines = [rendered(form, one) for one in documents]
    else:
        import json

        whole = json.dumps(documents, indent=4, ensure_ascii=False)
        lines = [go_json(documents) if form else whole]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    if missing is not None:
        raise missing
    return 0


def show_removed(title: str, names: Iterable[str], freed: int) -> int:
    """Print the names of what a prune removed, and the bytes that it took."""
    listed = "".join(f"{name}\n" for name in names)
    sys.stdout.write(f"{title}\n{listed}\n" if listed else "")
    sys.stdout.write(f"Total reclaimed space: {short_bytes(freed)}\n")
    return 0


def run_verb(parsed: Parsed, command: str, verbs: Mapping[str, Verb], words: list[str]) -> int:
    """Run the subcommand that the first of *words* names.

    Raises:
        UsageError: there is none, or it takes another number of arguments.
    """
    verb, rest = words[0], words[1:]
    if verb not in verbs:
        raise UsageError(
            f'unknown command "{command} {verb}"', hints=[f"one of {', '.join(verbs)}"]
        )
    function, shape, least, most = verbs[verb]
    if not least <= len(rest) <= most:
        raise UsageError(
            f'"pybuild {command} {verb}" expects {shape}, got {len(rest)} arguments',
            hints=[f"pybuild {command.split()[0]} --help shows how it is written"],
        )
    return function(parsed, rest)


def confirmed(parsed: Parsed, what: str) -> bool:
    """Ask whether to remove *what*, but not with ``--force``.

    Raises:
        UsageError: there is nobody to ask.
    """
    if parsed.flag("force"):
        return True
    if not sys.stdin.isatty():
        raise UsageError("prune asks before it deletes", hints=["add --force to do without"])
    sys.stderr.write(f"WARNING! This will remove {what}. Are you sure you want to continue? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
