"""A coverage-guided fuzzer of the frontend: ``python -m tests.fuzz.run --inputs 100000 --seed 1``.

It keeps what takes a new step in the code, or ends in an error of a new kind, and changes that
further. With the same seed and Python it does the same. Findings go to ``--findings`` as files,
each of which ``--replay FILE`` tries again.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from pybuild.model.errors import UserError
from tests.fuzz.coverage import Arcs
from tests.fuzz.inputs import changed, seeds
from tests.fuzz.targets import TARGETS, Target

LIMIT_S = 2.0  # of processor time, for one input
_MEMORY = 1 << 30
_TRACED = 40  # one in so many inputs, beside those of a new outcome
_WEIGHTS = {"dockerfile": 12, "base_image": 1, "ignore_file": 2, "words": 4, "options": 3}
_VALUES = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|\([^)]*\)|[0-9]+", re.DOTALL)
_WHERE = re.compile(r"(dockerfile parse error on line|failed to \w+|ONBUILD trigger)[^:]*: ")


class Hang(BaseException):
    """The input takes too long; no handler of the code under test may catch that."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that does what none may do."""

    kind: str
    data: bytes
    problem: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.problem}\n  {self.data!r}"


@dataclass(slots=True)
class Tally:
    """The outcome of a run.

    Attributes:
        outcomes: by target and what came out: "ok", or an error with its values left out.
    """

    inputs: int = 0
    errors: int = 0
    slowest_s: float = 0.0
    slowest: str = ""
    corpus: int = 0
    arcs: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    findings: dict[str, Finding] = field(default_factory=dict[str, Finding])

    def __str__(self) -> str:
        return (
            f"{self.inputs} inputs, {self.errors} errors of {len(self.outcomes)} kinds, "
            f"corpus {self.corpus}, arcs {self.arcs}, slowest {self.slowest_s:.2f} s, "
            f"findings {len(self.findings)}"
        )


class Fuzzer:
    """One run; *targets* by name, as in `TARGETS`."""

    def __init__(
        self, seed: int, *, targets: dict[str, Target] | None = None, limit_s: float = LIMIT_S
    ) -> None:
        self._rng = random.Random(seed)
        self._targets = dict(TARGETS) if targets is None else targets
        self._limit_s = limit_s
        self._corpus = {kind: list(data) for kind, data in seeds().items()}
        self._pending = [(kind, data) for kind in self._targets for data in self._corpus[kind]]
        self._arcs = Arcs()
        self._kinds = [k for k in self._targets for _ in range(_WEIGHTS[k])]
        self.tally = Tally()

    def run(self, inputs: int, seconds: float = float("inf")) -> Tally:
        """Try so many inputs, or as many as the time allows, whichever is less."""
        before = signal.signal(signal.SIGPROF, _too_long)
        end = time.monotonic() + seconds
        try:
            for _ in range(inputs):
                if time.monotonic() > end or len(self.tally.findings) >= 50:
                    break
                self._one()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
        self.tally.corpus = sum(map(len, self._corpus.values()))
        self.tally.arcs = len(self._arcs)
        return self.tally

    def _one(self) -> None:
        if self._pending:
            kind, data = self._pending.pop()
        else:
            kind = self._rng.choice(self._kinds)
            corpus = self._corpus[kind]
            # Half of the time one of the newest, as there is more to find near it.
            recent = corpus[-40:] if self._rng.random() < 0.5 else corpus
            data = changed(kind, self._rng.choice(recent), corpus, self._rng)
        tally = self.tally
        tally.inputs += 1
        outcome = self._outcome(kind, data)
        tally.errors += outcome != "ok"
        tally.outcomes[kind, outcome] += 1
        is_known = tally.outcomes[kind, outcome] > 1
        if outcome.startswith("FINDING") or (is_known and self._rng.randrange(_TRACED)):
            return
        if len(data) <= 4096 and self._arcs.add(lambda: self._try(kind, data)):
            self._corpus[kind].append(data)

    def _outcome(self, kind: str, data: bytes) -> str:
        """Run the input; a finding is noted and is an outcome too."""
        signal.setitimer(signal.ITIMER_PROF, self._limit_s)
        start = time.process_time()
        try:
            self._targets[kind](data)
            return "ok"
        except UserError as error:
            try:
                error.message.encode()
            except UnicodeEncodeError:
                return self._found(kind, data, f"a message that is no text: {error.message!r}")
            return _kind(error.message)
        except Hang as hang:
            return self._found(kind, data, f"takes longer than {self._limit_s} s {_place(hang)}")
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may see it
            problem = f"{type(error).__name__}: {error} {_place(error)}"
            return self._found(kind, data, problem)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            taken = time.process_time() - start
            if taken > self.tally.slowest_s:
                self.tally.slowest_s, self.tally.slowest = taken, f"{kind} {data[:200]!r}"

    def _try(self, kind: str, data: bytes) -> None:
        try:
            self._targets[kind](data)
        except Exception:  # noqa: BLE001 - known by now; only the way is of interest
            return

    def _found(self, kind: str, data: bytes, problem: str) -> str:
        """Note a finding, once for each place that it comes from."""
        place = problem.rpartition(" at ")[2]
        self.tally.findings.setdefault(f"{kind} {place}", Finding(kind, data, problem))
        return f"FINDING at {place}"


def _kind(message: str) -> str:
    """Return the part of a message that does not change with the input."""
    return _WHERE.sub("", _VALUES.sub("…", message)).partition(":")[0][:60]


def _too_long(signum: int, frame: FrameType | None) -> None:
    raise Hang


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    names = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:]]
    return "at " + "<".join(reversed(names))


def _save(findings: Iterable[Finding], where: Path) -> None:
    where.mkdir(parents=True, exist_ok=True)
    for finding in findings:
        name = f"{finding.kind}-{hashlib.sha256(finding.data).hexdigest()[:12]}"
        (where / name).write_bytes(finding.data)


def main() -> int:
    """Run the fuzzer from the command line; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=list(TARGETS), action="append")
    parser.add_argument("--findings", type=Path, help="directory for the inputs that were found")
    parser.add_argument("--replay", type=Path, help="a file out of that directory")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    if given.replay:
        TARGETS[given.replay.name.partition("-")[0]](given.replay.read_bytes())
        return 0
    chosen = {name: TARGETS[name] for name in given.target or TARGETS}
    fuzzer = Fuzzer(given.seed, targets=chosen)
    start = time.monotonic()
    tally = fuzzer.run(given.inputs, given.seconds)
    sys.stdout.write(f"seed {given.seed}: {tally}, {time.monotonic() - start:.0f} s\n")
    sys.stdout.write(f"  slowest: {tally.slowest}\n")
    for finding in tally.findings.values():
        sys.stdout.write(f"{finding}\n")
    if given.findings and tally.findings:
        _save(tally.findings.values(), given.findings)
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
