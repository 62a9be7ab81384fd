"""Asks a reference builder what is right, and keeps its answers in ``expected/``.

    python -m tests.conformance.reference            # compare the records with the builder
    python -m tests.conformance.reference --record   # write them
    python -m tests.conformance.reference --record CP-5 E132   # only cases whose name starts so

The builder is BuildKit: ``buildctl`` on PATH, or the command in ``PYBUILD_REFERENCE``, such as
``"buildctl --addr unix:///run/buildkit/buildkitd.sock"``. It must not serve anybody else meanwhile:
cases about the cache start by pruning it.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.conformance.cases import HERE, Build, Case, lay_out, load_cases, make_base
from tests.conformance.outcome import Outcome, compare, failure, line_range, read_image

EXPECTED = HERE / "expected"
_TIMEOUT_SECONDS = 120


def reference_command() -> list[str] | None:
    """The reference builder's command line, or None when there is none."""
    if given := os.environ.get("PYBUILD_REFERENCE"):
        return shlex.split(given)
    return ["buildctl"] if shutil.which("buildctl") else None


def run_case(command: Sequence[str], case: Case, where: Path, base: Path) -> Outcome:
    """Build *case* with the reference below *where*."""
    if case.then is None:
        return _build(command, case.build, where / "one", base)[0]
    _run([*command, "prune", "--all"])
    first, _ = _build(command, case.build, where / "one", base)
    second, steps = _build(command, case.then, where / "two", base)
    if "error" in second:
        return second
    return {"ok": "error" not in first, "steps": steps}


def _build(
    command: Sequence[str], build: Build, where: Path, base: Path
) -> tuple[Outcome, dict[str, str]]:
    laid = lay_out(build, where, base)
    image = where / "image.tar"
    words = [*command, "build", "--frontend", "dockerfile.v0", "--progress", "rawjson"]
    words += ["--local", f"context={laid.context}", "--local", f"dockerfile={laid.context}"]
    words += ["--opt", f"filename={laid.dockerfile.name}"]
    for name, source in laid.contexts.items():
        if "://" in source:
            words += ["--opt", f"context:{name}={source}"]
        else:
            words += ["--local", f"{name}={source}", "--opt", f"context:{name}=local:{name}"]
    for name, value in build.args.items():
        words += ["--opt", f"build-arg:{name}={value}"]
    for name, value in build.labels.items():
        words += ["--opt", f"label:{name}={value}"]
    for name, path in laid.secrets.items():
        words += ["--secret", f"id={name},src={path}"]
    for key, value in (
        ("target", build.target),
        ("platform", build.platform),
        ("force-network-mode", build.network),
    ):
        if value:
            words += ["--opt", f"{key}={value}"]
    if build.no_cache:
        words += ["--no-cache"]
    words += ["--output", f"type=oci,dest={image},compression=uncompressed"]
    done = _run(words)
    messages = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    if done.returncode:
        text = [line for line in done.stderr.splitlines() if not line.startswith('{"')]
        marked = [re.match(r" *(\d+) \| >>>", line) for line in text]
        start = next(i for i, line in enumerate(text) if line.startswith("error: "))
        message = "\n".join(text[start:]).removeprefix("error: ")
        return failure(message, line_range(int(m[1]) for m in marked if m)), {}
    warnings = _warnings(messages)
    outcome = read_image(image, build.mtimes)
    return outcome | ({"warnings": warnings} if warnings else {}), _steps(messages)


def _steps(messages: list[dict[str, Any]]) -> dict[str, str]:
    """Steps by name; internal ones and transfers are each builder's own affair."""
    steps: dict[str, str] = {}
    for message in messages:
        for vertex in message.get("vertexes", []):
            name = vertex["name"]
            if re.match(r"\[[^\]]*\d+/\d+\] (?!FROM)", name):
                step = re.sub(r"^\[[^\]]*\] ", "", name)
                steps[step] = "CACHED" if vertex.get("cached") else steps.get(step, "RUN")
    return dict(sorted(steps.items()))


def _warnings(messages: list[dict[str, Any]]) -> list[str]:
    shorts = [
        base64.b64decode(warning["short"]).decode()
        for message in messages
        for warning in message.get("warnings", [])
    ]
    return sorted(set(shorts))


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
    )


def load_expected(section: str) -> dict[str, Outcome]:
    """The records of one section, by case."""
    path = EXPECTED / f"{section}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save_expected(section: str, outcomes: dict[str, Outcome]) -> None:
    """One case a paragraph, so that a diff of the records can be read."""
    text = json.dumps(dict(sorted(outcomes.items())), indent=1, sort_keys=True, ensure_ascii=False)
    (EXPECTED / f"{section}.json").write_text(text + "\n")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="compare the records with a reference builder")
    parser.add_argument("--record", action="store_true", help="write the records")
    parser.add_argument("--new", action="store_true", help="only cases without a record")
    parser.add_argument("prefix", nargs="*", help="only cases whose name starts so")
    options = parser.parse_args(arguments)
    command = reference_command()
    if command is None:
        print("no reference builder: put buildctl on PATH or set PYBUILD_REFERENCE")
        return 2
    cases = [
        case
        for case in load_cases()
        if (not options.prefix or case.name.startswith(tuple(options.prefix)))
        and not (options.new and case.name in load_expected(case.section))
    ]
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        base = make_base(Path(scratch, "base"))

        def run(case: Case) -> Outcome:
            where = Path(scratch, case.name)
            try:
                return run_case(command, case, where, base)
            except Exception as error:
                error.add_note(f"in case {case.name}")
                raise
            finally:
                shutil.rmtree(where, ignore_errors=True)

        plain = [case for case in cases if case.then is None]
        with ThreadPoolExecutor(4) as pool:
            outcomes = dict(zip([c.name for c in plain], pool.map(run, plain), strict=True))
        # One at a time: each begins by forgetting what the others did.
        outcomes |= {case.name: run(case) for case in cases if case.then is not None}
    return _finish(cases, outcomes, record=options.record)


def _finish(cases: list[Case], outcomes: dict[str, Outcome], *, record: bool) -> int:
    stale = 0
    for section in sorted({case.section for case in cases}):
        old = load_expected(section)
        for case in cases:
            if case.section != section:
                continue
            if case.name not in old:
                print(f"{case.name}: new")
            elif differences := compare(old[case.name], outcomes[case.name]):
                stale += 1
                print(case.name, *differences, sep="\n    ")
            old[case.name] = outcomes[case.name]
        if record:
            wanted = {case.name for case in load_cases() if case.section == section}
            save_expected(section, {name: old[name] for name in old if name in wanted})
    print(f"{len(cases)} cases, {stale} differ from the records")
    return 0 if record or not stale else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
