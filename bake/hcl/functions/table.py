"""All functions by name, those too that look at their arguments unevaluated."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from pybuild.bake.hcl.expressions import Expression, Function, NameScope, Special
from pybuild.bake.hcl.functions.builtin import Builtin, of_two
from pybuild.bake.hcl.functions.collections import COLLECTION_FUNCTIONS
from pybuild.bake.hcl.functions.encodings import ENCODING_FUNCTIONS
from pybuild.bake.hcl.functions.numbers import NUMBER_FUNCTIONS
from pybuild.bake.hcl.functions.texts import TEXT_FUNCTIONS
from pybuild.bake.hcl.functions.times import TIME_FUNCTIONS
from pybuild.bake.hcl.functions.versions import satisfies
from pybuild.bake.hcl.types import converted, read_type
from pybuild.bake.hcl.values import Value, ValueProblem, to_text


def _try(arguments: Sequence[Expression], scope: NameScope) -> Value:
    problems: list[str] = []
    for argument in arguments:
        try:
            return argument.value(scope)
        except ValueProblem as problem:
            problems.append(problem.message)
    raise ValueProblem(f"no expression of try succeeded: {'; '.join(problems) or 'there is none'}")


def _can(arguments: Sequence[Expression], scope: NameScope) -> Value:
    if len(arguments) != 1:
        raise ValueProblem("can takes one expression")
    try:
        arguments[0].value(scope)
    except ValueProblem:
        return False
    return True


def _convert(arguments: Sequence[Expression], scope: NameScope) -> Value:
    if len(arguments) != 2:
        raise ValueProblem("convert takes a value and a type")
    return converted(arguments[0].value(scope), read_type(arguments[1]))


def functions(now: Callable[[], float], home: str) -> Mapping[str, Function | Special]:
    """Return the functions that every bake file has.

    Args:
        now: seconds since the epoch, for ``timestamp``.
        home: for ``homedir``.
    """

    def timestamp() -> Value:
        return datetime.fromtimestamp(int(now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    return {
        **NUMBER_FUNCTIONS,
        **TEXT_FUNCTIONS,
        **COLLECTION_FUNCTIONS,
        **ENCODING_FUNCTIONS,
        **TIME_FUNCTIONS,
        "can": Special(_can),
        "convert": Special(_convert),
        "homedir": Builtin(lambda: home or os.path.expanduser("~"), 0, 0),
        "semvercmp": of_two(lambda one, of: satisfies(to_text(one), to_text(of))),
        "timestamp": Builtin(timestamp, 0, 0),
        "try": Special(_try),
    }
