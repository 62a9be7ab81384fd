"""The names that bake files define: variables, functions, and blocks that refer to one another.

Nothing has a value until it is asked for, so the order of what is written does not matter; a value
that depends on itself is an error.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field

from pybuild.bake.hcl import types
from pybuild.bake.hcl.body import Body, Field, HclBlock
from pybuild.bake.hcl.expressions import (
    Function,
    Inner,
    ListOf,
    NameScope,
    Special,
    unknown,
)
from pybuild.bake.hcl.functions.builtin import Builtin
from pybuild.bake.hcl.functions.encodings import from_json, json_of
from pybuild.bake.hcl.types import ANY, Type
from pybuild.bake.hcl.values import Value, ValueProblem, kind, to_bool, to_text
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.span import Span
from pybuild.model.text import split_csv

_JSON = "_JSON"  # after the name of a variable: its value as JSON
_MOST_INSTANCES = 10_000  # that one matrix makes


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableFacts:
    """A variable as it is listed; *value* is None where it is null."""

    name: str
    description: str
    type: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Instance:
    """A block with the values that its matrix gives it, and its name with these."""

    block: HclBlock
    name: str
    scope: NameScope = field(compare=False)
    values: Mapping[str, Value] = field(default_factory=dict[str, Value], compare=False)

    @property
    def key(self) -> Hashable:
        return id(self.block), self.name


class Definitions:
    """The scope of all files of one definition.

    Args:
        bodies: of the files; what is defined again counts as it is defined last.
        lookup: gives the value that a variable has from outside; None where it has none.
        given: variables that no file may set.
        functions: those that every file has.
        fields: by kind of block, the fields that one may have.
    """

    def __init__(
        self,
        bodies: Sequence[Body],
        *,
        lookup: Callable[[str], str | None],
        given: Mapping[str, str],
        functions: Mapping[str, Function | Special],
        fields: Mapping[str, frozenset[str]],
    ) -> None:
        self._lookup = lookup
        self._given = given
        self._functions = dict(functions)
        self._fields = fields
        self._attributes: dict[str, Field] = {}
        self._variables: dict[str, HclBlock] = {}
        self._values: dict[str, Value] = dict(given)
        self._types: dict[str, Type] = {}
        self._block_values: dict[tuple[Hashable, str], Value] = {}
        self._busy: set[Hashable] = set()
        self._blocks: list[HclBlock] = []
        for body in bodies:
            self._attributes |= body.fields
            for block in body.blocks:
                self._add(block)
        for name in list(self._attributes):
            if name in fields or name in given:
                del self._attributes[name]
        self._instances: dict[str, dict[str, list[Instance]]] | None = None

    def _add(self, block: HclBlock) -> None:
        if block.type not in ("variable", "function", *self._fields):
            return
        if len(block.labels) != 1:
            shown = " ".join(f'"{label}"' for label in block.labels)
            raise UserError(
                f"invalid block label: {block.type} {shown}".rstrip(),
                spans=[block.span],
                hints=[f'write {block.type} "name" {{…}}'],
            )
        name = block.labels[0]
        if block.type == "variable":
            self._variables[name] = block
        elif block.type == "function":
            self._functions[name] = self._user_function(name, block)
        else:
            self._blocks.append(block)

    # --- what expressions ask ---------------------------------------------------------------------

    def has_blocks(self, root: str) -> bool:
        """Whether *root* is a kind of block."""
        return root in self._fields

    def function(self, name: str) -> Function | Special:
        """Return a function; see `NameScope.function`."""
        if name not in self._functions:
            raise unknown("function", name, list(self._functions))
        return self._functions[name]

    def variable(self, name: str) -> Value:
        """Return the value of a variable; see `NameScope.variable`."""
        if name not in self._values:
            with self._once(("variable", name), f"variable cycle not allowed for {name}"):
                self._values[name] = self._variable(name)
        return self._values[name]

    def block(self, path: Sequence[str]) -> Value:
        """Return the value of a block, or of a field of it; see `NameScope.block`."""
        type_, name = path[0], path[1]
        same_name = self.instances(type_).get(name)
        if not same_name:
            raise unknown(type_, name, list(self.instances(type_)))
        if len(path) > 2:
            return self._field_of(same_name, path[2])
        fields = sorted(self._fields[type_])
        return {"name": name, **{one: self._field_of(same_name, one) for one in fields}}

    def _field_of(self, same_name: Sequence[Instance], name: str) -> Value:
        if name == "name":
            return same_name[-1].name
        for instance in reversed(same_name):
            if name in instance.block.body.fields:
                return self.value_of(instance, name)
        if name not in self._fields[same_name[-1].block.type]:
            raise ValueProblem(
                f'unsupported attribute: a {same_name[-1].block.type} has no "{name}"'
            )
        return None

    @contextmanager
    def _once(self, what: Hashable, problem: str) -> Generator[None]:
        """Refuse *what* while it is under way."""
        if what in self._busy:
            raise ValueProblem(problem)
        self._busy.add(what)
        try:
            yield
        finally:
            self._busy.discard(what)

    # --- blocks -----------------------------------------------------------------------------------

    def instances(self, type_: str) -> Mapping[str, list[Instance]]:
        """Return the blocks of a kind by name, in the order of the files.

        Raises:
            ValueProblem: a matrix or a name has no value.
        """
        if self._instances is None:
            self._instances = {kind_: {} for kind_ in self._fields}
            for instance in self.every():
                self._instances[instance.block.type].setdefault(instance.name, []).append(instance)
        return self._instances[type_]

    def every(self) -> Iterator[Instance]:
        """Yield all blocks, one with a matrix once for each combination of its values."""
        for block in self._blocks:
            with _placed(block.span):
                made = list(self._instances_of(block))
                counts = Counter(instance.name for instance in made)
                doubled = next((name for name, count in counts.items() if count > 1), None)
                if doubled is not None:
                    raise ValueProblem(
                        f'duplicate name "{doubled}"',
                        hints=["name = … has to use every key of the matrix"],
                    )
            yield from made

    def _instances_of(self, block: HclBlock) -> Iterator[Instance]:
        fields = block.body.fields
        if "matrix" not in self._fields[block.type] and not fields.keys().isdisjoint(
            ("matrix", "name")
        ):
            wrong = "matrix" if "matrix" in fields else "name"
            raise ValueProblem(f"{wrong} is not supported for {block.type}s")
        if "matrix" not in fields:
            if "name" in fields and "matrix" in self._fields[block.type]:
                raise ValueProblem("name requires matrix").with_spans([fields["name"].span])
            yield Instance(block, block.labels[0], self)
            return
        matrix = fields["matrix"].expression.value(self)
        if not isinstance(matrix, dict):
            raise ValueProblem("matrix must be a map").with_spans([fields["matrix"].span])
        choices: list[list[tuple[str, Value]]] = []
        for name in sorted(matrix):
            values = matrix[name]
            if not isinstance(values, list):
                raise ValueProblem("matrix values must be a list").with_spans(
                    [fields["matrix"].span]
                )
            choices.append([(name, value) for value in values])
        if math.prod(map(len, choices)) > _MOST_INSTANCES:
            raise ValueProblem(f"the matrix makes more than {_MOST_INSTANCES} targets").with_spans(
                [fields["matrix"].span]
            )
        for combination in itertools.product(*choices):
            values_of = dict(combination)
            scope = Inner(self, values_of)
            name_of = fields.get("name")
            name = block.labels[0] if name_of is None else to_text(name_of.expression.value(scope))
            yield Instance(block, name, scope, values_of)

    def value_of(self, instance: Instance, name: str) -> Value:
        """Return the value of a field that the block has.

        Raises:
            ValueProblem: it has none, or depends on itself.
        """
        key = (instance.key, name)
        if key not in self._block_values:
            where = f"{instance.block.type}.{instance.name}.{name}"
            with self._once(key, f"reference cycle not allowed for {where}"):
                written = instance.block.body.fields[name]
                self._block_values[key] = written.expression.value(instance.scope)
        return self._block_values[key]

    # --- variables --------------------------------------------------------------------------------

    def _variable(self, name: str) -> Value:
        if name in self._attributes:
            return self._attributes[name].expression.value(self)
        if name not in self._variables:
            known = [*self._variables, *self._attributes, *self._given]
            raise unknown("variable", name, known)
        block = self._variables[name]
        with _placed(block.span):
            return self._declared(name, block)

    def _declared(self, name: str, block: HclBlock) -> Value:
        fields = block.body.fields
        type_: Type = ANY
        if "type" in fields and fields["type"].expression.keyword != "null":
            type_ = types.read_type(fields["type"].expression)
            self._types[name] = type_
        typed = name in self._types
        default = fields.get("default")
        outside, is_json = self._outside(name, prefers_json=typed)
        value: Value = None if typed else ""
        if default is not None:
            value = default.expression.value(self)
            try:
                value = types.converted(value, type_)
            except ValueProblem as problem:
                raise problem.saying(
                    f"invalid type {type_} for variable {name} default value: {problem.message}"
                ) from problem
        if outside is None:
            return value
        if typed and is_json:
            return types.converted(from_json(outside), type_)
        if isinstance(type_, types.Collection | types.Tuple):
            return types.fields_from(name, split_csv(outside), type_)
        if types.is_primitive(type_):
            return types.primitive_from(name, outside, type_)
        if typed and type_ != ANY:
            raise ValueProblem(
                f"unsupported type {type_} for variable {name}",
                hints=[f"set {name}{_JSON} to its value as JSON"],
            )
        if default is None or value is None:
            return outside
        if isinstance(value, list | dict):
            raise ValueProblem(f"unsupported type {kind(value)} for variable {name}")
        return types.primitive_from(name, outside, types.Simple(kind(value)))

    def _outside(self, name: str, *, prefers_json: bool) -> tuple[str | None, bool]:
        """Return the value of a variable from outside, and whether it is JSON."""
        text = self._lookup(name)
        as_json = name + _JSON
        if text is None or prefers_json:
            is_free = as_json not in self._variables and as_json not in self._given
            if is_free and (in_json := self._lookup(as_json)) is not None:
                return in_json, True
        return text, False

    def check(self) -> None:
        """Give every variable its value, and hold it against its own rules.

        Raises:
            ValueProblem: one has none, or breaks a rule.
        """
        for name in (*self._variables, *self._attributes):
            self.variable(name)
        for block in self._variables.values():
            for rule in (one for one in block.body.blocks if one.type == "validation"):
                self._validate(rule)

    def _validate(self, rule: HclBlock) -> None:
        condition = rule.body.fields.get("condition")
        message = rule.body.fields.get("error_message")
        if condition is None or message is None:
            missing = "condition" if condition is None else "error_message"
            raise ValueProblem(f'missing required argument "{missing}"').with_spans([rule.span])
        with _placed(condition.span):
            held = condition.expression.value(self)
            if held is None:
                raise ValueProblem("condition expression must return true or false, not null")
            if not to_bool(held):
                said = message.expression.value(self)
                text = "this check failed, but has an invalid error message"
                raise ValueProblem(f"validation failed: {text if said is None else to_text(said)}")

    def variables(self) -> list[VariableFacts]:
        """Return the variables in the order of their names."""
        return [self._facts(name) for name in sorted(self._variables)]

    def _facts(self, name: str) -> VariableFacts:
        value, type_ = self.variable(name), self._types.get(name)
        described = self._variables[name].body.fields.get("description")
        shown = json_of(value) if isinstance(value, list | dict) else None
        if shown is None and value is not None:
            shown = to_text(value)
        return VariableFacts(
            name=name,
            description="" if described is None else to_text(described.expression.value(self)),
            type="" if type_ is None else str(type_),
            value=shown,
        )

    # --- functions --------------------------------------------------------------------------------

    def _user_function(self, name: str, block: HclBlock) -> Function:
        fields = block.body.fields
        for needed in ("params", "result"):
            if needed not in fields:
                raise UserError(f"empty {needed} not allowed for {name}", spans=[block.span])
        written = fields["params"].expression
        names = [one.keyword for one in written.elements] if isinstance(written, ListOf) else [""]
        rest = fields["variadic_params"].expression.keyword if "variadic_params" in fields else None
        if not all(names) or rest == "":
            raise UserError(
                "invalid param element: each parameter name must be an identifier",
                spans=[written.span],
            )
        result = fields["result"].expression

        def call(*given: Value) -> Value:
            known = dict(zip(names, given, strict=False))
            if rest is not None:
                known[rest] = list(given[len(names) :])
            with self._once(("function", name), f"function cycle not allowed for {name}"):
                return result.value(Inner(self, known))

        return Builtin(call, len(names), len(names) if rest is None else -1, nulls=True)


@contextmanager
def _placed(span: Span) -> Generator[None]:
    """Give problems that have no place this one."""
    try:
        yield
    except ValueProblem as problem:
        if problem.spans:
            raise
        raise problem.with_spans([span]) from problem
