"""`dataclass` as the standard library has it, for a tenth of what each class costs there.

The modules of a build make 180 dataclasses. The standard library compiles up to six methods of
each from text, which takes 0.3 ms a class: half of what passed before a build's first step. Here no
class compiles anything of its own. ``__init__`` is compiled once for each *shape* (how many fields,
which of them a factory makes) and given the names of the class's fields; the other methods are
closures over what `operator.attrgetter` takes from an instance.

Fields, slots and `dataclasses.replace`, `fields` and `asdict` stay the standard library's, and type
checkers see nothing else. Options that are not used here, and classes without slots, are left to it.
"""

from __future__ import annotations

import sys
from _operator import attrgetter
from _thread import get_ident
from types import FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    import dataclasses
    from collections.abc import Callable, Sequence
    from dataclasses import dataclass
    from types import CodeType
    from typing import Any

    Field = dataclasses.Field[Any]
    Getter = Callable[[Any], tuple[Any, ...]]
else:

    class _LateModule(ModuleType):
        """A module that is loaded when something of it is first asked for."""

        def __getattr__(self, name):
            return getattr(__import__(self.__name__), name)

    class _Words:
        """The pattern by which dataclasses knows the names in an annotation, without `re`."""

        def __init__(self, pattern):
            self._pattern = pattern

        def match(self, annotation):
            word = annotation.partition("[")[0]
            if "." in word or "Var" in word:  # a module's name may stand before it
                import re

                return re.match(self._pattern, annotation)
            return None  # neither ClassVar nor InitVar, the only ones that it asks for

    def _stand_ins():
        """Return stand-ins for what dataclasses loads and our classes need nothing of."""
        made = {name: _LateModule(name) for name in ("copy", "functools", "inspect", "re")}
        made["re"].compile = _Words
        made["functools"].wraps = lambda function: (
            lambda wrapper: wrapper
        )  # of one method of its own
        return {name: module for name, module in made.items() if name not in sys.modules}

    if "dataclasses" not in sys.modules:
        # They take longer to load than all else of dataclasses.
        _known = _stand_ins()
        sys.modules.update(_known)
        try:
            import dataclasses
        finally:
            for _name in _known:
                del sys.modules[_name]
        if "functools" in _known:
            del _known["functools"].wraps
    else:
        import dataclasses

    def dataclass(cls=None, /, **options):
        """Make *cls* a dataclass; the options are those of `dataclasses.dataclass`."""
        if cls is None:
            return lambda cls: dataclass(cls, **options)
        if options.get("slots") and options.keys() <= {"frozen", "slots", "kw_only", "eq"}:
            return _make(cls, **options)
        return dataclasses.dataclass(cls, **options)


__all__ = ["dataclass", "field", "replace"]

field, replace = dataclasses.field, dataclasses.replace

_codes: dict[tuple[object, ...], CodeType] = {}
_FACTORY = object()
"""The default of a parameter that a factory makes."""


def _make(
    cls: type[Any], *, slots: bool, frozen: bool = False, kw_only: bool = False, eq: bool = True
) -> type[Any]:
    own = set(cls.__dict__)
    if cls.__dict__.get("__hash__") is None:
        own.discard("__hash__")  # Python's own None beside an __eq__
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # else one is made of the signature, which takes a while
    made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(
        cls
    )
    fields = dataclasses.fields(made)
    methods: dict[str, Any] = {"__init__": _init(made, fields, frozen=frozen), "__repr__": _repr}
    if eq:
        methods["__eq__"] = _eq(_getter([field.name for field in fields if field.compare]))
        # Whoever is compared by value and may change has no hash, as any class of that kind.
        methods["__hash__"] = _hash(_getter(_hashed(fields))) if frozen else None
    if frozen:
        methods |= _FROZEN
    for name in methods.keys() - own:
        setattr(made, name, methods[name])
    return made


def _init(cls: type[Any], fields: Sequence[Field], *, frozen: bool) -> FunctionType:
    first = [field for field in fields if not field.kw_only]
    ordered = [*first, *(field for field in fields if field.kw_only)]
    made = tuple(field.default_factory is not dataclasses.MISSING for field in ordered)
    code = _code(made, len(first), frozen=frozen, after=hasattr(cls, "__post_init__"))
    names = {f"p{number}": field.name for number, field in enumerate(ordered)}
    known: dict[str, Any] = {"FACTORY": _FACTORY}
    defaults: dict[str, Any] = {}
    for number, field in enumerate(ordered):
        if frozen:
            # A slot's own setter does not ask __setattr__, which refuses.
            known[f"set{number}"] = getattr(cls, field.name).__set__
        if made[number]:
            known[f"make{number}"] = field.default_factory
            defaults[field.name] = _FACTORY
        elif field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
    named = code.replace(
        co_varnames=tuple(names.get(name, name) for name in code.co_varnames),
        co_names=tuple(names.get(name, name) for name in code.co_names),
    )
    by_place = tuple(defaults.pop(field.name) for field in first if field.name in defaults)
    init = FunctionType(named, known, "__init__", by_place)
    init.__kwdefaults__ = defaults
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _code(made: tuple[bool, ...], first: int, *, frozen: bool, after: bool) -> CodeType:
    """Return the code of an ``__init__`` whose parameters are called p0, p1 and so on.

    Args:
        made: for each parameter, whether a factory may have to make it.
        first: how many may be given by their place.
        after: call ``__post_init__``.
    """
    shape = (made, first, frozen, after)
    if shape in _codes:
        return _codes[shape]
    names = [f"p{number}" for number in range(len(made))]
    parameters = ["self", *names[:first], *(["*"] if names[first:] else []), *names[first:]]
    lines = [f"def __init__({', '.join(parameters)}):"]
    for number, name in enumerate(names):
        value = f"make{number}() if {name} is FACTORY else {name}" if made[number] else name
        lines.append(f" set{number}(self, {value})" if frozen else f" self.{name} = {value}")
    lines.append(" self.__post_init__()" if after else " pass")
    scope: dict[str, Any] = {}
    exec("\n".join(lines), scope)  # noqa: S102 (nothing in it comes from elsewhere)
    code: CodeType = scope["__init__"].__code__
    _codes[shape] = code
    return code


def _getter(names: Sequence[str]) -> Getter:
    """Return a function that takes these attributes from an instance, as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda _: ()
    only = attrgetter(*names)
    return lambda instance: (only(instance),)


def _hashed(fields: Sequence[Field]) -> list[str]:
    return [f.name for f in fields if (f.compare if f.hash is None else f.hash)]


def _eq(compared: Getter) -> Callable[[Any, object], bool]:
    def __eq__(self: Any, other: object) -> bool:
        if other.__class__ is self.__class__:
            return compared(self) == compared(other)
        return NotImplemented

    return __eq__


def _hash(hashed: Getter) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:
        return hash(hashed(self))

    return __hash__


_shown: set[tuple[int, int]] = set()
"""Instances whose text is being made, by thread: one that holds itself is shown once."""


def _repr(self: Any) -> str:
    key = (id(self), get_ident())
    if key in _shown:
        return "..."
    _shown.add(key)
    try:
        return _text(self)
    finally:
        _shown.discard(key)


def _text(self: Any) -> str:
    shown = [f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr]
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _refuse_to_set(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


_FROZEN = {
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
    "__getstate__": _get_state,  # for copies: they would be made by assignment
    "__setstate__": _set_state,
}
