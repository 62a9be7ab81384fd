"""The test or case that covers each requirement: makes ``docs/conformance.md``.

    python -m tests.conformance.table          # write it

An id counts as covered where a case has it in its name or a test's text cites it, also in a range
such as ``MNT-1..12``.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

from tests.conformance.cases import HERE, load_cases
from tests.conformance.session import OWN_WORDS, accepted_fields, sessions

ROOT = HERE.parents[1]
PAGE = ROOT / "docs/conformance.md"
_ID = re.compile(
    r"(?<![A-Za-z0-9-])(E|[A-Z]{2,4}-(?:P|[A-Z]\b)?)(\d*)(?:\.\.(\d+))?(?![A-Za-z0-9])"
)
_MOST = 2  # places named for each id; more say nothing more, and change too often

_HEAD = """\
# Conformance

What pybuild implements of the Dockerfile language, and what shows it. This page is made by
`python -m tests.conformance.table`; a test keeps it current and fails on a requirement without a test.

A *case* is a small build in `tests/conformance/cases/`. What it gives was recorded from BuildKit (built from its
2026-11 source): outcome and error message, image config, history, the entries of every layer, the final tree,
warnings, and for cases about the cache the steps that a second build finds there. pybuild is compared with that.

{counts}

Left out of the comparison is what cannot be equal: times of making, digests over such times, names of temporary files.
Where pybuild says more than the reference (the line of an error, the value it is about), that counts as equal.
The reference was run without extended attributes on its disk, so these are covered by pybuild's own tests only.

## Differences on purpose

{differences}

## BuildKit's own integration suite

{suite}

## buildx and buildctl

{other_suites}

## BuildKit's client package

{client_suite}

## moby's own tests of a running engine

{moby_suites}

## Suites of Docker's clients

Unmodified, against Docker's API on `pybuild daemon`: on 2 cores, root, in a network namespace of its own, with no way to the internet. A registry on loopback is Docker Hub's mirror, with twins of public images that are made of Debian's
packages. Run by hand; kept here are counts and the names of what is missed.

{docker_suites}

## Containers, networks and volumes beside dockerd

{sessions}

## Requirements

{tables}
"""


def covered_by() -> dict[str, list[str]]:
    """For each id what covers it: names of cases first, then test files."""
    found: dict[str, list[str]] = {}
    for case in load_cases():
        for name in _ids_of_name(case.name):
            found.setdefault(name, []).append(f"case `{case.name}`")
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path.is_relative_to(HERE):
            continue
        for name in sorted(ids_in(path.read_text(encoding="utf-8"))):
            found.setdefault(name, []).append(f"`{path.relative_to(ROOT)}`")
    return found


def ids_in(text: str) -> set[str]:
    """Every id that *text* cites, ranges included."""
    found: set[str] = set()
    for match in _ID.finditer(text):
        prefix, first, last = match.groups()
        if not first:
            found.add(prefix)
            continue
        for number in range(int(first), min(int(last or first), int(first) + 99) + 1):
            found.add(f"{prefix}{number}")
    return found


def _ids_of_name(name: str) -> list[str]:
    """``CP-2-E128-parents`` is about CP-2 and E128."""
    return re.findall(r"(?:(?<=-)|^)(E\d+|[A-Z]{2,4}-(?:P?\d+|[A-Z](?=-)))", name)


def requirements() -> dict[str, dict[str, str]]:
    """Section to id to gist."""
    return tomllib.loads((HERE / "ids.toml").read_text(encoding="utf-8"))


def elsewhere() -> dict[str, str]:
    """Ids that no test of this repository can cover, with the reason."""
    return tomllib.loads((HERE / "elsewhere.toml").read_text(encoding="utf-8"))


def uncovered() -> list[str]:
    """Ids with neither a case, nor a test, nor a reason."""
    found, reasons = covered_by(), elsewhere()
    ids = [name for section in requirements().values() for name in section]
    return [name for name in ids if name not in found and name not in reasons]


def suite() -> str:
    """Results of the reference's own suite on the build server; measured, so kept as data."""
    data: dict[str, Any] = tomllib.loads((HERE / "suite.toml").read_text(encoding="utf-8"))
    lines = [
        f"Unmodified, against `pybuild daemon` under the name `buildkitd`: {data['version']}; on {data['machine']}.",
        "",
        "| frontend | cases | skipped | the reference passes | of these pybuild passes |",
        "|---|---|---|---|---|",
    ]
    runs: list[dict[str, Any]] = [data[name] for name in ("builtin", "client")]
    for run in runs:
        numbers = f"{run['cases']} | {run['skipped']} | {run['reference']} | {run['both']}"
        lines.append(f"| {run['title']} | {numbers} |")
    for run in runs:
        lines += ["", f"Missed with the {run['title']}:", "", "| case | why |", "|---|---|"]
        lines += [f"| `{name}` | {why} |" for name, why in sorted(run["misses"].items())]
        alike = sorted(run["alike"].items())
        lines += [f"| `{name}` | {why}; the reference fails likewise |" for name, why in alike]
    return "\n".join(lines)


def other_suites() -> str:
    """The results of the suites of the reference's command lines against the build server; measured, too."""
    data: dict[str, Any] = tomllib.loads((HERE / "othersuites.toml").read_text(encoding="utf-8"))
    lines = [
        "Unmodified, by `tests/conformance/peersuite.py`, in a network namespace of its own, with the same stand-ins.",
        "",
        "| suite | cases | skipped | the reference passes | pybuild passes |",
        "|---|---|---|---|---|",
    ]
    rows: list[str] = []
    for run in data.values():
        numbers = f"{run['cases']} | {run['skipped']} | {run['reference']} | {run['passed']}"
        lines.append(f"| {run['title']} ({run['version']}) | {numbers} |")
        rows += [f"| `{name}` | {_cell(why)} |" for name, why in sorted(run["misses"].items())]
        alike = sorted(run["alike"].items())
        rows += [
            f"| `{name}` | {_cell(why)}; the reference fails likewise |" for name, why in alike
        ]
    return "\n".join([*lines, "", "| missed | why |", "|---|---|", *rows])


def client_suite() -> str:
    """The results of the suite of the reference's client package against the build server; measured, too."""
    data: dict[str, Any] = tomllib.loads((HERE / "clientsuite.toml").read_text(encoding="utf-8"))
    lines = [
        (
            "LLB, the gateway, merges and differences, exporters, caches and policies, as the Go client asks for them."
            f" Unmodified: {data['version']}; each case in a process of its own, by"
            " `tests/conformance/peersuite.py`, which is run by hand and compares with what is recorded here."
        ),
        "",
        "| cases | skipped | pybuild passes | missed |",
        "|---|---|---|---|",
        f"| {data['cases']} | {data['skipped']} | {data['passed']} | {len(data['misses'])} |",
        "",
        data["note"],
        "",
        "| missed | why |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {_cell(why)} |" for name, why in sorted(data["misses"].items())]
    return "\n".join(lines)


def moby_suites() -> str:
    """The results of the reference's tests of a running engine; measured, too."""
    data: dict[str, Any] = tomllib.loads((HERE / "mobysuite.toml").read_text(encoding="utf-8"))
    lines = [
        f"Unmodified, against Docker's API: {data['version']}. {data['note']}",
        "",
        "| package | pybuild passes | the reference | missed | skipped |",
        "|---|---|---|---|---|",
    ]
    for name, one in data["packages"].items():
        numbers = f"{one['passed']} | {one['reference']} | {one['missed']} | {one['skipped']}"
        lines.append(f"| `integration/{name}` | {numbers} |")
    lines += ["", "| missed | why |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(why)} |" for name, why in sorted(data["misses"].items())]
    return "\n".join(lines)


def docker_suites() -> str:
    """The results of the suites of Docker's clients against Docker's API on the daemon; measured, too."""
    data: dict[str, Any] = tomllib.loads((HERE / "dockersuites.toml").read_text(encoding="utf-8"))
    runs: list[dict[str, Any]] = list(data.values())
    lines = ["| suite | cases | skipped | pybuild passes |", "|---|---|---|---|"]
    lines += [
        f"| {run['title']} | {run['cases']} | {run['skipped']} | {run['passed']} |" for run in runs
    ]
    for run in runs:
        lines += ["", f"{run['note']} Missed:", "", "| case | why |", "|---|---|"]
        lines += [f"| `{name}` | {_cell(why)} |" for name, why in sorted(run["misses"].items())]
    return "\n".join(lines)


def engine_sessions() -> str:
    """Return the page's part on sessions with an engine: its requests, and each difference with its reason."""
    known = sessions()
    requests = [request for session in known for request in session.requests]
    worded = sum(request.reason == OWN_WORDS for request in requests)
    rows = [
        f"| `{_cell(request.line)}` | {request.reason} |"
        for request in requests
        if request.reason not in ("", OWN_WORDS)
    ]
    different = sum(bool(request.reason) for request in requests)
    head = (
        f"**{len(requests)} command lines** in `tests/conformance/engine/`, run by docker's client against dockerd 20.10 of"
        f" Debian 12 and recorded by `tests/conformance/recordsessions.py`: pybuild answers {len(requests) - different} of"
        f" them alike, {worded} with an error in its own words, and {len(rows)} otherwise:"
    )
    fields = [f"| `inspect`: `{path}` | {why} |" for path, why in accepted_fields().items()]
    return "\n".join(
        [head, "", "| request | why |", "|---|---|", *rows, *map(_escaped_bars, fields)]
    )


def _escaped_bars(row: str) -> str:
    """Return a row whose cells have bars, with these escaped."""
    first, last = row.removeprefix("| ").removesuffix(" |").rsplit(" | ", 1)
    return f"| {_escaped(first)} | {last} |"


def page() -> str:
    """The whole page."""
    found, reasons = covered_by(), elsewhere()
    listed = tomllib.loads((HERE / "differences.toml").read_text(encoding="utf-8"))
    number = len(load_cases())
    ids = sum(len(section) for section in requirements().values())
    undone = sum(1 for entry in listed.values() if entry.get("open"))
    counts = (
        f"**{number} cases**: {number - len(listed)} equal, {len(listed)} different and listed below"
        f" ({undone} of them still to be done). **{ids} requirements**."
    )
    rows = [f"| `{name}` | {_cell(entry['reason'])} |" for name, entry in sorted(listed.items())]
    differences = "\n".join(["| case | why |", "|---|---|", *rows])
    tables: list[str] = []
    for section, items in requirements().items():
        lines = [f"### {section}", "", "| id | requirement | shown by |", "|---|---|---|"]
        for name, gist in items.items():
            places = found.get(name, [])
            cases_of = [place for place in places if place.startswith("case ")]
            shown = ", ".join((cases_of or places)[:_MOST]) or reasons.get(name, "nothing yet")
            lines.append(f"| {name} | {_cell(gist)} | {shown} |")
        tables.append("\n".join(lines))
    return _HEAD.format(
        counts=counts,
        differences=differences,
        suite=suite(),
        other_suites=other_suites(),
        client_suite=client_suite(),
        moby_suites=moby_suites(),
        docker_suites=docker_suites(),
        sessions=engine_sessions(),
        tables="\n\n".join(tables),
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else _escaped(text)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    for name in uncovered():
        print(f"{name}: no test, no case")


if __name__ == "__main__":
    main()
