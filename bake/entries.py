"""The entries of a target's lists that have parts: caches, outputs, secrets, agents, attestations.

Each is written as a text, in the form of the flag that it stands for, or as an object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from pybuild.bake.hcl.values import Value, ValueProblem, kind, to_text
from pybuild.model.dataclass import dataclass
from pybuild.model.text import boolean, join_csv, split_csv

Entry: TypeAlias = dict[str, Value]


def _pairs(text: str, *, lower: bool = True) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for part in split_csv(text):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueProblem(f'invalid value "{part}": expected name=value')
        pairs.append((name.strip().lower() if lower else name, value))
    return pairs


def _typed(entry: Mapping[str, str], written: object) -> Entry:
    if not entry.get("type"):
        raise ValueProblem(f'type required for "{written}"')
    return dict(entry)


def _texts_of(value: Mapping[str, Value]) -> dict[str, str]:
    return {name: to_text(one) for name, one in value.items() if one is not None}


# --- one kind after the other: from a text, from an object ----------------------------------------


def _caches(text: str) -> list[Entry]:
    if "=" not in text:
        return [{"type": "registry", "ref": ref} for ref in split_csv(text)]
    return [_typed(dict(_pairs(text)), text)]


def _outputs(text: str) -> list[Entry]:
    fields = split_csv(text)
    if fields == [text] and not text.startswith("type="):
        return [{"type": "tar" if text == "-" else "local", "dest": text}]
    return [_typed(dict(_pairs(text)), text)]


def _secret(pairs: Sequence[tuple[str, str]]) -> Entry:
    made = {"id": "", "src": "", "env": ""}
    type_ = ""
    for name, value in pairs:
        if name == "type":
            if value not in ("file", "env"):
                raise ValueProblem(f'unsupported secret type "{value}"')
            type_ = value
        elif name in ("id", "src", "source", "env"):
            made["src" if name == "source" else name] = value
        else:
            raise ValueProblem(f'unexpected key "{name}" of a secret')
    if type_ == "env" and not made["env"]:
        made["env"], made["src"] = made["src"], ""
    return {name: value for name, value in made.items() if value}


def _agent(text: str) -> Entry:
    name, equals, paths = text.partition("=")
    return {"id": name, **({"paths": list(paths.split(","))} if equals else {})}


def _agent_of(value: Mapping[str, Value]) -> Entry:
    paths = value.get("paths")
    made: Entry = {"id": to_text(value.get("id") or "")}
    if isinstance(paths, list) and paths:
        made["paths"] = [to_text(path) for path in paths]
    return made


def _attestation(text: str) -> Entry:
    made: Entry = {}
    for part in split_csv(text):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueProblem(f'invalid value "{part}": expected name=value')
        made[name.strip().lower() if name.lower() in ("type", "disabled") else name] = value
    return _attestation_of(made)


def _attestation_of(value: Mapping[str, Value]) -> Entry:
    made: Entry = dict(_texts_of(value))
    if not made.get("type"):
        raise ValueProblem("attestation type not specified")
    disabled = made.pop("disabled", "false")
    switched = boolean(str(disabled))
    if switched is None:
        raise ValueProblem(f'invalid value "disabled={disabled}": expected true or false')
    return {**made, **({"disabled": True} if switched else {})}


_POLICY = ("filename", "reset", "disabled", "strict", "log-level")


def _policy(pairs: Sequence[tuple[str, str]]) -> Entry:
    for name, _ in pairs:
        if name not in _POLICY:
            raise ValueProblem(f'invalid key "{name}" of a policy: one of {", ".join(_POLICY)}')
    return dict(pairs)


@dataclass(frozen=True, slots=True)
class EntryKind:
    """A kind of entry.

    Attributes:
        parse: entries of a text.
        of: an entry of an object.
        key: the name whose value an entry replaces another's by; empty: only an equal one.
        order: names that are shown first; the others by name.
    """

    parse: Callable[[str], list[Entry]]
    of: Callable[[Mapping[str, Value]], Entry]
    key: str = ""
    order: tuple[str, ...] = ()

    def read(self, value: Value) -> list[Entry]:
        """Return the entries of a field's value.

        Raises:
            ValueProblem: one is wrong.
        """
        if not isinstance(value, list):
            raise ValueProblem(f"list required, not {kind(value)}")
        made: list[Entry] = []
        for one in value:
            if isinstance(one, dict):
                made.append(self.of(one))
            elif one is not None and (text := to_text(one)):
                made += self.parse(text)
        return made

    def merged(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return *entries* without those that a later one stands for."""
        kept: list[Entry] = []
        for entry in entries:
            if not self.key:
                if entry not in kept:
                    kept.append(entry)
                continue
            same = (at for at, one in enumerate(kept) if one.get(self.key) == entry.get(self.key))
            at = next(same, None)
            if at is None:
                kept.append(entry)
            else:
                kept[at] = entry
        return kept

    def shown(self, entry: Entry) -> Entry:
        """Return an entry with its names in the order that they are shown in."""
        first = [name for name in self.order if name in entry]
        return {name: entry[name] for name in first + sorted(entry.keys() - set(first))}


def entry_text(entry: Mapping[str, Value]) -> str:
    """Return an entry in the form of the flag that it stands for."""
    return join_csv(f"{name}={'true' if value is True else value}" for name, value in entry.items())


KINDS: Mapping[str, EntryKind] = {
    "attest": EntryKind(lambda text: [_attestation(text)], _attestation_of, key="type"),
    "cache-from": EntryKind(_caches, lambda value: _typed(_texts_of(value), value)),
    "cache-to": EntryKind(_caches, lambda value: _typed(_texts_of(value), value)),
    "output": EntryKind(_outputs, lambda value: _typed(_texts_of(value), value)),
    "policy": EntryKind(
        lambda text: [_policy(_pairs(text))], lambda value: _policy([*_texts_of(value).items()])
    ),
    "secret": EntryKind(
        lambda text: [_secret(_pairs(text))],
        lambda value: _secret([*_texts_of(value).items()]),
        key="id",
        order=("id", "src", "env"),
    ),
    "ssh": EntryKind(lambda text: [_agent(text)], _agent_of, key="id", order=("id", "paths")),
}
