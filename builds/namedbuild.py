"""One of several builds that are made together. Lean: to know them needs no engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from pybuild.builds.request import BuildRequest
from pybuild.model.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedBuild:
    """One of several builds.

    Attributes:
        flags: values of the options of ``pybuild build`` that ask for it, by their names; memos
            are found by them, where there are any.
        links: the names of others by those of the contexts that their results are.
        is_delivered: its outputs are made; otherwise it is there for those that read it.
    """

    request: BuildRequest
    flags: Mapping[str, list[str]] = field(default_factory=dict[str, list[str]])
    links: Mapping[str, str] = field(default_factory=dict[str, str])
    is_delivered: bool = True
