# Written by scripts/protos.
# fmt: off

import typing as _t
from collections import abc as _abc

from google.protobuf.internal import containers as _c
from google.protobuf.message import Message as _Message

# PolicyAction
ALLOW: _t.Final = 0
DENY: _t.Final = 1
CONVERT: _t.Final = 2

# MatchType
WILDCARD: _t.Final = 0
EXACT: _t.Final = 1
REGEX: _t.Final = 2

# AttrMatch
EQUAL: _t.Final = 0
NOTEQUAL: _t.Final = 1
MATCHES: _t.Final = 2

class Policy(_Message):
    version: int
    @property
    def rules(self) -> _c.RepeatedCompositeFieldContainer[_Rule]: ...
    def __init__(self, *, version: int | None = ..., rules: _abc.Iterable[_Rule] | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["version", "rules"]) -> None: ...

class Rule(_Message):
    action: int
    @property
    def selector(self) -> _Selector: ...
    @property
    def updates(self) -> _Update: ...
    def __init__(self, *, action: int | None = ..., selector: _Selector | None = ..., updates: _Update | None = ...) -> None: ...
    def HasField(self, field_name: _t.Literal["selector", "updates"]) -> bool: ...
    def ClearField(self, field_name: _t.Literal["action", "selector", "updates"]) -> None: ...

class Selector(_Message):
    identifier: str
    match_type: int
    @property
    def constraints(self) -> _c.RepeatedCompositeFieldContainer[_AttrConstraint]: ...
    def __init__(self, *, identifier: str | None = ..., match_type: int | None = ..., constraints: _abc.Iterable[_AttrConstraint] | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["identifier", "match_type", "constraints"]) -> None: ...

class AttrConstraint(_Message):
    key: str
    value: str
    condition: int
    def __init__(self, *, key: str | None = ..., value: str | None = ..., condition: int | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["key", "value", "condition"]) -> None: ...

class Update(_Message):
    identifier: str
    @property
    def attrs(self) -> _c.ScalarMap[str, str]: ...
    def __init__(self, *, identifier: str | None = ..., attrs: _abc.Mapping[str, str] | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["identifier", "attrs"]) -> None: ...

_AttrConstraint: _t.TypeAlias = AttrConstraint
_Rule: _t.TypeAlias = Rule
_Selector: _t.TypeAlias = Selector
_Update: _t.TypeAlias = Update
