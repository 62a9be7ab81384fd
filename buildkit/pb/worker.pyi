# Written by scripts/protos.
# fmt: off

import typing as _t
from collections import abc as _abc

from google.protobuf.internal import containers as _c
from google.protobuf.message import Message as _Message

from pybuild.buildkit.pb import ops as _ops

class WorkerRecord(_Message):
    ID: str
    @property
    def Labels(self) -> _c.ScalarMap[str, str]: ...
    @property
    def platforms(self) -> _c.RepeatedCompositeFieldContainer[_ops.Platform]: ...
    @property
    def GCPolicy(self) -> _c.RepeatedCompositeFieldContainer[_GCPolicy]: ...
    @property
    def BuildkitVersion(self) -> _BuildkitVersion: ...
    @property
    def CDIDevices(self) -> _c.RepeatedCompositeFieldContainer[_CDIDevice]: ...
    def __init__(self, *, ID: str | None = ..., Labels: _abc.Mapping[str, str] | None = ..., platforms: _abc.Iterable[_ops.Platform] | None = ..., GCPolicy: _abc.Iterable[_GCPolicy] | None = ..., BuildkitVersion: _BuildkitVersion | None = ..., CDIDevices: _abc.Iterable[_CDIDevice] | None = ...) -> None: ...
    def HasField(self, field_name: _t.Literal["BuildkitVersion"]) -> bool: ...
    def ClearField(self, field_name: _t.Literal["ID", "Labels", "platforms", "GCPolicy", "BuildkitVersion", "CDIDevices"]) -> None: ...

class GCPolicy(_Message):
    all: bool
    keepDuration: int
    reservedSpace: int
    @property
    def filters(self) -> _c.RepeatedScalarFieldContainer[str]: ...
    maxUsedSpace: int
    minFreeSpace: int
    def __init__(self, *, all: bool | None = ..., keepDuration: int | None = ..., reservedSpace: int | None = ..., filters: _abc.Iterable[str] | None = ..., maxUsedSpace: int | None = ..., minFreeSpace: int | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["all", "keepDuration", "reservedSpace", "filters", "maxUsedSpace", "minFreeSpace"]) -> None: ...

class BuildkitVersion(_Message):
    package: str
    version: str
    revision: str
    dockerfileVersion: str
    def __init__(self, *, package: str | None = ..., version: str | None = ..., revision: str | None = ..., dockerfileVersion: str | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["package", "version", "revision", "dockerfileVersion"]) -> None: ...

class CDIDevice(_Message):
    Name: str
    AutoAllow: bool
    @property
    def Annotations(self) -> _c.ScalarMap[str, str]: ...
    OnDemand: bool
    def __init__(self, *, Name: str | None = ..., AutoAllow: bool | None = ..., Annotations: _abc.Mapping[str, str] | None = ..., OnDemand: bool | None = ...) -> None: ...
    def ClearField(self, field_name: _t.Literal["Name", "AutoAllow", "Annotations", "OnDemand"]) -> None: ...

_BuildkitVersion: _t.TypeAlias = BuildkitVersion
_CDIDevice: _t.TypeAlias = CDIDevice
_GCPolicy: _t.TypeAlias = GCPolicy
