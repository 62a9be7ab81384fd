"""Functions of lists and objects."""

from __future__ import annotations

import itertools
import math

from pybuild.bake.hcl import values
from pybuild.bake.hcl.expressions import element
from pybuild.bake.hcl.functions.builtin import Builtin, of_one, of_two
from pybuild.bake.hcl.values import (
    Number,
    Value,
    ValueProblem,
    as_set,
    equal,
    to_list,
    to_number,
    to_object,
    to_text,
    to_whole,
)

_MOST_ELEMENTS = 10_000  # of a list that is made from a few numbers


def _is_in(value: Value, among: list[Value]) -> bool:
    return any(equal(value, one) for one in among)


def _chunks(of: Value, size: Value) -> Value:
    every, count = to_list(of), to_whole(size)
    if count < 0:
        raise ValueProblem("the size argument must be positive")
    if count == 0:
        return [every]
    return [every[at : at + count] for at in range(0, len(every), count)]


def _coalesce(*given: Value) -> Value:
    kept = values.one_kind([one for one in given if one is not None])
    if not kept:
        raise ValueProblem("no non-null arguments")
    return kept[0]


def _coalesce_list(*given: Value) -> Value:
    for one in given:
        if one is not None and to_list(one):
            return one
    raise ValueProblem("no non-null arguments")


def _compact(of: Value) -> Value:
    return [to_text(one) for one in to_list(of) if one is not None and to_text(one)]


def _concat(*lists: Value) -> Value:
    return list(itertools.chain.from_iterable(map(to_list, lists)))


def _element(of: Value, at: Value) -> Value:
    every, place = to_list(of), to_whole(at)
    if not every:
        raise ValueProblem("cannot use element function with an empty list")
    return every[place % len(every)]


def _flat(of: Value) -> list[Value]:
    made: list[Value] = []
    for one in to_list(of):
        made += _flat(one) if isinstance(one, list) else [one]
    return made


def _has_index(of: Value, at: Value) -> Value:
    if isinstance(of, list):
        return isinstance(at, int) and not isinstance(at, bool) and 0 <= at < len(of)
    return isinstance(at, str) and at in to_object(of)


def _index_of(of: Value, value: Value) -> Value:
    every = to_list(of)
    if not every:
        raise ValueProblem("cannot search an empty list")
    for at, one in enumerate(every):
        if equal(one, value):
            return at
    raise ValueProblem("item not found")


def _length(of: Value) -> Value:
    if not isinstance(of, list | dict):
        raise ValueProblem(f"a list or an object is required, not {values.kind(of)}")
    return len(of)


def _lookup(of: Value, name: Value, otherwise: Value) -> Value:
    return to_object(of).get(to_text(name), otherwise)


def _merge(*objects: Value) -> Value:
    made: dict[str, Value] = {}
    for one in objects:
        if one is not None:
            made |= to_object(one)
    return made


def _range(*given: Value) -> Value:
    numbers: list[Number] = [to_number(one) for one in given]
    start, end = (numbers[0], numbers[1]) if len(numbers) > 1 else (0, numbers[0])
    step = numbers[2] if len(numbers) > 2 else (1 if start <= end else -1)
    if step == 0 or (end > start) != (step > 0) and end != start:
        raise ValueProblem("the step must lead from the start to the end")
    count = max(0, math.ceil((end - start) / step))
    if count > _MOST_ELEMENTS:
        raise ValueProblem(f"more than {_MOST_ELEMENTS} values")
    return [values.number(values.NUMBERS.add(start, step * at)) for at in range(count)]


def _slice(of: Value, start: Value, end: Value) -> Value:
    every, first, last = to_list(of), to_whole(start), to_whole(end)
    if not 0 <= first <= last <= len(every):
        raise ValueProblem(f"no slice {first} to {last} of a list of {len(every)} elements")
    return every[first:last]


def _zipped(names: Value, of: Value) -> Value:
    keys, every = to_list(names), to_list(of)
    if len(keys) != len(every):
        raise ValueProblem(f"number of keys ({len(keys)}) does not match {len(every)} values")
    return {to_text(key): value for key, value in zip(keys, every, strict=True)}


# --- sets -----------------------------------------------------------------------------------------


def _intersection(first: Value, *others: Value) -> Value:
    kept = to_list(first)
    for other in map(to_list, others):
        kept = [one for one in kept if _is_in(one, other)]
    return as_set(kept)


def _difference(first: Value, other: Value) -> Value:
    return as_set([one for one in to_list(first) if not _is_in(one, to_list(other))])


def _symmetric(first: Value, *others: Value) -> Value:
    kept = to_list(first)
    for other in map(to_list, others):
        kept = [one for one in kept if not _is_in(one, other)] + [
            one for one in other if not _is_in(one, kept)
        ]
    return as_set(kept)


def _product(*lists: Value) -> Value:
    every = [to_list(one) for one in lists]
    if math.prod(map(len, every)) > _MOST_ELEMENTS:
        raise ValueProblem(f"more than {_MOST_ELEMENTS} values")
    return [list(one) for one in itertools.product(*every)]


COLLECTION_FUNCTIONS: dict[str, Builtin] = {
    "chunklist": Builtin(_chunks, 2, 2),
    "coalesce": Builtin(_coalesce, 1, -1, nulls=True),
    "coalescelist": Builtin(_coalesce_list, 1, -1, nulls=True),
    "compact": Builtin(_compact, 1, 1),
    "concat": Builtin(_concat, 1, -1),
    "contains": of_two(lambda of, value: _is_in(value, to_list(of)), nulls=True),
    "distinct": of_one(lambda of: values.distinct(values.one_kind(to_list(of)))),
    "element": Builtin(_element, 2, 2),
    "flatten": Builtin(_flat, 1, 1),
    "hasindex": Builtin(_has_index, 2, 2),
    "index": Builtin(element, 2, 2),
    "indexof": Builtin(_index_of, 2, 2),
    "keys": of_one(lambda of: [*sorted(to_object(of))]),
    "length": Builtin(_length, 1, 1),
    "lookup": Builtin(_lookup, 3, 3, nulls=True),
    "merge": Builtin(_merge, 1, -1, nulls=True),
    "range": Builtin(_range, 1, 3),
    "reverselist": of_one(lambda of: to_list(of)[::-1]),
    "sethaselement": of_two(lambda of, value: _is_in(value, to_list(of))),
    "setintersection": Builtin(_intersection, 1, -1),
    "setproduct": Builtin(_product, 1, -1),
    "setsubtract": Builtin(_difference, 2, 2),
    "setsymmetricdifference": Builtin(_symmetric, 1, -1),
    "setunion": Builtin(lambda *lists: as_set(list(itertools.chain(*map(to_list, lists)))), 1, -1),
    "slice": Builtin(_slice, 3, 3),
    "sort": of_one(lambda of: [*sorted(map(to_text, to_list(of)))]),
    "values": of_one(lambda of: to_list(to_object(of))),
    "zipmap": Builtin(_zipped, 2, 2),
}
