"""The outcome of a run of a fuzzer, whatever it tried."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """The outcome of a run.

    Attributes:
        outcomes: by target and what came out.
        findings: what must not happen, with the input.
    """

    inputs: int = 0
    slowest_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    findings: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        lines = [f"{self.inputs} inputs, slowest {self.slowest_s:.3f} s"]
        lines += [f"{len(self.outcomes)} outcomes, {len(self.findings)} findings"]
        lines += [f"{count:8} {outcome}" for outcome, count in self.outcomes.most_common(40)]
        return "\n".join(lines + self.findings)
