"""Completion scripts for bash, zsh and fish, made from the tables of commands.

Shells that ask the program at every key wait for Python at every key; a script made once answers at
once. Only names of images are asked for, of ``pybuild images``, where a word can be one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from importlib.resources import files

from pybuild.commandline import every
from pybuild.commandline.parser import Command, Parsed
from pybuild.model.errors import UsageError
from pybuild.model.options import Option


class WordKind(StrEnum):
    """The kind of word that is offered, where there are not just a few."""

    FILES = "files"
    DIRECTORIES = "directories"
    IMAGES = "images"
    NOTHING = "nothing"


Offer = WordKind | tuple[str, ...]
"""The words that there are for a place, or their kind."""

_OF_METAVAR = {
    **dict.fromkeys(("CMD", "FILE", "NAME=SRC", "SPEC", "URL"), WordKind.FILES),
    "DIR": WordKind.DIRECTORIES,
}


def main(parsed: Parsed) -> int:
    """Print the completion script of a shell."""
    shell = parsed.positionals[0]
    if shell not in SHELLS:
        raise UsageError(f'no completion for "{shell}": one of {", ".join(SHELLS)}')
    sys.stdout.write(completion(shell, every()))
    return 0


def completion(shell: str, commands: Sequence[Command]) -> str:
    """Return the script for *shell*, a key of `SHELLS`."""
    return SHELLS[shell]([_with_verbs(one, commands) for one in commands if " " not in one.name])


def _with_verbs(command: Command, commands: Sequence[Command]) -> Command:
    """Return a command with all the options of its verbs: shells look at one word alone."""
    verbs = [one for one in commands if one.name in command.verbs.values()]
    if command.target:  # `builder build` is for habits; `history ls` is a command of its own
        verbs = [command, *(one for one in verbs if one.name.startswith(f"{command.name} "))]
    options = {option.name: option for one in verbs for option in one.options}
    if command.target:
        most = (command.name, command.help, command.target, tuple(options.values()))
        return Command(*most, command.arguments)
    names = "NAME:TAG" if "NAME" in command.arguments[0] else ""
    shape = " | ".join(f"{verb} {names}".strip() for verb in command.verbs)
    return Command(command.name, command.help, "", tuple(options.values()), (shape, 1, -1))


def value_of(option: Option) -> Offer:
    """Return the values that are offered for an option that takes one."""
    if option.values:
        return tuple(option.values)
    if option.name == "tag":
        return WordKind.IMAGES
    return _OF_METAVAR.get(option.metavar, WordKind.NOTHING)


def positions_of(command: Command) -> list[Offer]:
    """Return the offers for each argument in turn; the last holds for all that follow."""
    usage = command.arguments[0]
    alternatives = [part.split() for part in usage.split(" | ")]
    if len(alternatives) == 1:
        offers = [_argument(word) for word in alternatives[0]]
        return offers if command.arguments[2] < 0 else [*offers, WordKind.NOTHING]
    # Verbs; a word before the first of them stands before all, as in ``cache mounts ls | rm``.
    leading = [word for word in alternatives[0] if word.islower()]
    verbs = (leading[-1], *(words[0] for words in alternatives[1:]))
    rest = WordKind.IMAGES if "NAME:TAG" in usage else WordKind.FILES
    return [*((word,) for word in leading[:-1]), tuple(dict.fromkeys(verbs)), rest]


def _argument(word: str) -> Offer:
    names = word.strip("[]…").split("|")
    if all(name.islower() for name in names):
        return tuple(names)
    if names[0].startswith(("IMAGE", "NAME", "SOURCE")) or names[-1] == "NAME":
        return WordKind.IMAGES
    if names[0] == "DIR":
        return WordKind.DIRECTORIES
    return WordKind.FILES if names[0] in ("CMD", "FILE", "PATH") else WordKind.NOTHING


def _spellings(option: Option) -> list[str]:
    return [*([f"-{option.short}"] if option.short else []), f"--{option.name}"]


def _filled(shell: str, **tables: str) -> str:
    """Return the script for *shell* with each ``@name@`` in its file replaced by a table."""
    text = files("pybuild.commandline").joinpath(f"completion.{shell}").read_text("utf-8")
    return re.sub(f"@({'|'.join(tables)})@", lambda at: tables[at[1]], text)


# --- bash -----------------------------------------------------------------------------------------


def _bash(commands: Sequence[Command]) -> str:
    values: dict[str, dict[str, str]] = {}
    for command in commands:
        for option in command.options:
            offer = _bash_offer(value_of(option)) if option.metavar else ""
            for word in _spellings(option):
                values.setdefault(word, {})[command.name] = offer
    cases: dict[str, list[str]] = {}
    for word, by_command in sorted(values.items()):
        if len(set(by_command.values())) == 1:
            cases.setdefault(next(iter(by_command.values())), []).append(f"*:{word}")
            continue
        for name, offer in by_command.items():
            cases.setdefault(offer, []).append(f"{name}:{word}")
    cases.pop("", None)
    options: dict[str, list[str]] = {}
    for command in commands:
        words = " ".join(word for option in command.options for word in _spellings(option))
        options.setdefault(words, []).append(command.name)
    positions: dict[str, list[str]] = {}
    for command in commands:
        offers = positions_of(command)
        for number, at_place in enumerate(offers, 1):
            place = "*" if number == len(offers) else str(number)
            positions.setdefault(_bash_offer(at_place), []).append(f"{command.name}:{place}")
    return _filled(
        "bash",
        commands=" ".join(command.name for command in commands),
        values=_bash_cases(cases),
        options=_bash_cases(options),
        positions=_bash_cases(positions, most_exact_first=True),
    )


def _bash_offer(offer: Offer) -> str:
    return f"!{offer}" if isinstance(offer, WordKind) else " ".join(offer)


def _bash_cases(cases: Mapping[str, Iterable[str]], *, most_exact_first: bool = False) -> str:
    lines = [
        (pattern.endswith("*"), f"    {pattern}) REPLY='{reply}' ;;")
        for reply, patterns in cases.items()
        for pattern in ([" | ".join(patterns)] if not most_exact_first else patterns)
    ]
    if most_exact_first:
        lines.sort(key=lambda line: line[0])
    return "\n".join(line for _, line in lines)


# --- zsh ------------------------------------------------------------------------------------------

_ZSH_ACTIONS = {
    WordKind.FILES: "_files",
    WordKind.DIRECTORIES: "_files -/",
    WordKind.IMAGES: "_pybuild_images",
    WordKind.NOTHING: " ",
}


def _zsh(commands: Sequence[Command]) -> str:
    described = "\n".join(
        f"    {_quoted(command.name + ':' + command.help)}" for command in commands
    )
    cases = "\n".join(
        f"    ({command.name}) specs=(\n"
        + "".join(f"        {_quoted(spec)}\n" for spec in _zsh_specs(command))
        + "        ) ;;"
        for command in commands
    )
    return _filled("zsh", commands=described, specs=cases)


def _zsh_specs(command: Command) -> list[str]:
    specs: list[str] = []
    for option in command.options:
        value = ""
        if option.metavar:
            value = f":{_zsh_text(option.metavar)}:{_zsh_action(value_of(option))}"
        words = _spellings(option)
        others = "*" if option.repeat else f"({' '.join(words)})"
        for word in words:
            joined = "" if not value else "=" if word.startswith("--") else "+"
            specs.append(f"{others}{word}{joined}[{_zsh_text(option.help)}]{value}")
    offers = positions_of(command)
    for number, offer in enumerate(offers, 1):
        place = "*" if number == len(offers) else str(number)
        specs.append(f"{place}: :{_zsh_action(offer)}")
    return specs


def _zsh_action(offer: Offer) -> str:
    return _ZSH_ACTIONS[offer] if isinstance(offer, WordKind) else f"({' '.join(offer)})"


def _zsh_text(text: str) -> str:
    return "".join("\\" + char if char in "[]:\\" else char for char in text)


# --- fish -----------------------------------------------------------------------------------------

_FISH_VALUES = {
    WordKind.FILES: "-r -F",
    WordKind.DIRECTORIES: "-x -a '(__fish_complete_directories)'",
    WordKind.IMAGES: "-x -a '(__pybuild_images)'",
    WordKind.NOTHING: "-x",
}
_FISH_ARGUMENTS = {
    WordKind.FILES: "-F",
    WordKind.DIRECTORIES: "-a '(__fish_complete_directories)'",
    WordKind.IMAGES: "-a '(__pybuild_images)'",
}


def _fish(commands: Sequence[Command]) -> str:
    lines = [
        f"complete -c pybuild -n __pybuild_begins -a {command.name} -d {_fish_quoted(command.help)}"
        for command in commands
    ]
    for command in commands:
        is_this = f"__pybuild_is {command.name}"
        for option in command.options:
            words = [f"-l {option.name}", *([f"-s {option.short}"] if option.short else [])]
            if option.metavar:
                offer = value_of(option)
                words.append(_fish_value(offer))
            words.append(f"-d {_fish_quoted(option.help)}")
            lines.append(f"complete -c pybuild -n '{is_this}' {' '.join(words)}")
        offers = positions_of(command)
        for number, offer in enumerate(offers, 1):
            test = f"{is_this}; and __pybuild_at {number}"
            test += " more" if number == len(offers) else ""
            if not isinstance(offer, WordKind):
                lines.append(f"complete -c pybuild -n '{test}' -a '{' '.join(offer)}'")
            elif offer in _FISH_ARGUMENTS:
                lines.append(f"complete -c pybuild -n '{test}' {_FISH_ARGUMENTS[offer]}")
    valued = (
        (command.name, [word for o in command.options if o.metavar for word in _spellings(o)])
        for command in commands
    )
    return _filled(
        "fish",
        commands=" ".join(command.name for command in commands),
        valued="\n".join(
            f"set -g __pybuild_valued_{name.replace('-', '_')} {' '.join(words)}"
            for name, words in valued
        ),
        completions="\n".join(lines),
    )


def _fish_value(offer: Offer) -> str:
    return _FISH_VALUES[offer] if isinstance(offer, WordKind) else f"-x -a '{' '.join(offer)}'"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: Mapping[str, Callable[[Sequence[Command]], str]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}
