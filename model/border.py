"""The border between the main process and its workers: the values that cross it.

They are named tuples. Checkers see `typing.NamedTuple`; what stands in for it in both processes imports
nothing, since typing or dataclasses cost a worker more than most of its calls.

What `marshal` knows crosses. `packed` alone makes that of named tuples, and `unpacked` named tuples of it;
both refuse what does not fit.
"""

from __future__ import annotations

import sys
from _operator import itemgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NamedTuple
else:

    class _Named(type):
        """Makes a tuple with names of the annotations of a class."""

        def __new__(cls, name, bases, members):
            if bases and not bases[0]._fields:  # whoever derives from one has its fields
                fields = tuple(members.get("__annotations__", ()))
                members["_defaults"] = {f: members.pop(f) for f in fields if f in members}
                members["_fields"] = members["__match_args__"] = fields
                for index, field in enumerate(fields):
                    members[field] = property(itemgetter(index))
            members["__slots__"] = ()
            return super().__new__(cls, name, bases or (tuple,), members)

    class NamedTuple(metaclass=_Named):
        """The base class of named tuples."""

        _fields = ()
        _defaults = {}  # noqa: RUF012 (checkers see another class)

        def __new__(cls, *values, **named):
            fields = cls._fields
            if named or len(values) < len(fields):
                rest = fields[len(values) :]
                try:
                    values += tuple(map({**cls._defaults, **named}.__getitem__, rest))
                except KeyError as missing:
                    raise TypeError(f"{cls.__name__}: no {missing.args[0]}") from None
                if not named.keys() <= set(rest):
                    values = ()
            if len(values) != len(fields):
                raise TypeError(f"{cls.__name__}: takes {', '.join(fields) or 'nothing'}")
            return tuple.__new__(cls, values)

        def __repr__(self):
            shown = ", ".join(f"{f}={v!r}" for f, v in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({shown})"

        def __getnewargs__(self):
            return tuple(self)

        def _replace(self, **changes):
            return type(self)(**{**self._asdict(), **changes})

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))


__all__ = ["Misfit", "NamedTuple", "WorkerCall", "packed", "unpacked"]

_PLAIN = frozenset((str, int, bytes, bool, float, type(None)))
_SEQUENCES = frozenset((list, tuple))
_known: dict[str, type[Any]] = {}
"""The classes of named tuples that have come, by their names."""


class WorkerCall:
    """The call of a function in a worker: the function's first argument, beside those of the caller.

    Attributes:
        fds: the descriptors that the caller handed over.
        progress: tells the caller how far it is, as a rule in bytes.
    """

    __slots__ = ("fds", "progress")

    def __init__(
        self, fds: Sequence[int] = (), progress: Callable[[int], None] = lambda done: None
    ) -> None:
        self.fds = fds
        self.progress = progress


class Misfit(Exception):
    """A value that cannot cross the border, or one that came and is not as it is known here."""


def packed(value: Any) -> Any:
    """Return *value* as it crosses, a named tuple as ``(..., "module:class", value of each field)``.

    The members of a list, tuple or dictionary are alike: the first tells whether they are named tuples.

    Raises:
        Misfit: it holds what cannot cross.
    """
    kind = value.__class__
    if kind in _PLAIN:
        return value
    if hasattr(kind, "_fields"):
        members = [one if one.__class__ in _PLAIN else packed(one) for one in value]
        return (..., f"{kind.__module__}:{kind.__qualname__}", *members)
    if kind in _SEQUENCES:
        return value if _is_plain(value) else kind(map(packed, value))
    if kind is dict:
        if _is_plain(value):
            return value
        return {key: packed(member) for key, member in value.items()}
    if isinstance(value, str):  # a digest, or a member of an enumeration
        return str.__str__(value)
    raise Misfit(f"a value of type {kind.__name__} cannot be sent to another process")


def _is_plain(value: Any) -> bool:
    kind = value.__class__
    if kind in _SEQUENCES:
        return not value or _is_plain(value[0])
    if kind is dict:
        return not value or _is_plain(next(iter(value.values())))
    return kind in _PLAIN


def unpacked(value: Any) -> Any:
    """Return the value that `packed` was given.

    Raises:
        Misfit: it has a named tuple that is not known here, or has other fields here.
    """
    kind = value.__class__
    if kind in _PLAIN:
        return value
    if kind is tuple and value and value[0] is ...:
        return _named(value)
    if not _holds_named(value):
        return value
    if kind is dict:
        return {key: unpacked(member) for key, member in value.items()}
    sequence: Any = kind
    return sequence(map(unpacked, value))


def _holds_named(value: Any) -> bool:
    kind = value.__class__
    if kind in _SEQUENCES:
        return bool(value) and (value[0] is ... or _holds_named(value[0]))
    return kind is dict and bool(value) and _holds_named(next(iter(value.values())))


def _named(value: tuple[Any, ...]) -> Any:
    name: str = value[1]
    kind: Any = _known.get(name)
    if kind is None:
        module, _, qualified = name.partition(":")
        try:
            __import__(module)
            kind = _known[name] = getattr(sys.modules[module], qualified)
        except (ImportError, AttributeError) as error:
            raise Misfit(f"{name} is not known in this process") from error
    fields: tuple[str, ...] = kind._fields
    if len(value) - 2 != len(fields):
        raise Misfit(f"{name} came with {len(value) - 2} values, and has {', '.join(fields)} here")
    members = [one if one.__class__ in _PLAIN else unpacked(one) for one in value[2:]]
    made: Any = tuple.__new__(kind, members)  # pyright: ignore[reportUnknownMemberType]
    return made
