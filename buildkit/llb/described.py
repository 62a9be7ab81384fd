"""A result's definition as provenance shows it: steps as LLB has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedSteps:
    """The steps that make a result, for ``mode=max``.

    Attributes:
        steps: each with ``id``, ``op`` and ``inputs``, as LLB has them.
        digests: which step an op's digest is.
        infos: the files that the steps come from; *locations*: lines of these, by step.
        outputs: which output of which step a vertex is, as ``step0:0``.
    """

    steps: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    infos: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    locations: Mapping[str, Any] = field(default_factory=dict[str, Any])
    outputs: Mapping[Digest, str] = field(default_factory=dict[Digest, str])
