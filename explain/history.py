"""Writes the reasons of what ran into a build's record; reads them again."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain

from pybuild.cache.content.buildhistory import Builds, OpenRecord
from pybuild.cache.records.imported import ImportedCache
from pybuild.cache.records.inputs import Inputs
from pybuild.cache.store import Store
from pybuild.explain.account import Account
from pybuild.explain.cause import Surroundings
from pybuild.explain.report import BuildReport, StepReport, from_json, to_json
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.named import KnownInputs, Listing
from pybuild.model.ops import Vertex


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSubject:
    """The subject of a build.

    Attributes:
        context, dockerfile, target: as people named them.
        targets: of the definition; *reported*: vertices that were solved, and reported, before.
    """

    context: str
    dockerfile: str
    target: str
    targets: Sequence[Vertex]
    reported: Collection[Digest]
    around: Surroundings


async def explain(
    record: OpenRecord,
    store: Store,
    inputs: Inputs,
    account: Account,
    subject: BuildSubject,
    imports: Iterable[ImportedCache],
    error: str,
) -> BuildReport | None:
    """Explain what ran, in the record too; None where that fails, which fails no build."""
    try:
        work = asyncio.to_thread(_report, record, store, inputs, account, subject, imports, error)
        report = await work
    except PybuildError as fault:
        store.warn(f"the history does not say why steps ran: {fault.message}")
        return None
    record.report = to_json(report)
    return report


def _report(
    record: OpenRecord,
    store: Store,
    inputs: Inputs,
    account: Account,
    subject: BuildSubject,
    imports: Iterable[ImportedCache],
    error: str,
) -> BuildReport:
    known: Iterable[KnownInputs] = ()
    listings: dict[str, Listing] = {}
    if account.is_puzzling:
        from pybuild.explain.nearest import like

        imported: list[KnownInputs] = []
        accepts = like(account.missed_names)
        for cache in imports:
            carried = cache.known(accepts)
            imported += carried.known
            listings |= carried.listings
        # One by one: what this build itself has made may be most of them, and is passed over.
        known = chain(inputs.all(), imported)

    def find(digest: str) -> Listing | None:
        return listings.get(digest) or inputs.listing(digest)

    around = subject.around
    report = BuildReport(
        id=record.id,
        ref=str(record.facts.get("ref") or ""),
        at=around.started,
        seconds=round(max(0.0, store.clock.now() - around.started), 3),
        context=subject.context,
        dockerfile=subject.dockerfile,
        target=subject.target,
        error=error,
        steps=account.steps(subject.targets, subject.reported, known, find, around),
    )
    if account.has_misses:
        inputs.trim()
    return report


def reports(store: Store) -> Iterator[BuildReport]:
    """Yield the builds of the history, the latest first."""
    for value in Builds(store).latest():
        try:
            yield from_json(value)
        except ValueError:
            continue  # a newer pybuild's


def find_report(known: Iterable[BuildReport], text: str) -> BuildReport:
    """Return the build that *text* names: the start of its id; the latest where it is empty.

    Args:
        known: the latest first.

    Raises:
        UserError: there is none, or more than one.
    """
    matches = [report for report in known if report.id.startswith(text)]
    if not matches:
        if not text:
            raise UserError("no build is known here", hints=["pybuild build keeps a history"])
        raise UserError(
            f'no build "{text}" is known here', hints=["list them with pybuild explain --list"]
        )
    if text and len(matches) > 1:
        ids = ", ".join(report.id for report in matches[:5])
        raise UserError(f'build "{text}" could be any of {ids}')
    return matches[0]


def build_and_step(known: list[BuildReport], words: list[str]) -> tuple[str, str]:
    """Tell the build from the step: a single word that is no build's id is a step of the latest."""
    if len(words) == 2:
        return words[0], words[1]
    if not words:
        return "", ""
    is_build = any(report.id.startswith(words[0]) for report in known)
    return (words[0], "") if is_build else ("", words[0])


def steps_named(report: BuildReport, text: str) -> list[StepReport]:
    """Return the step of that number, or those with this text in their name.

    Raises:
        UserError: there is none.
    """
    number = text.removeprefix("#")
    if number.isdecimal() and len(number) < 10:
        steps = [step for step in report.steps if step.number == int(number)]
    else:
        steps = [step for step in report.steps if text.lower() in step.name.lower()]
    if not steps:
        raise UserError(
            f'build {report.id} has no step "{text}"',
            hints=["name its number or a part of its text, such as RUN or 3/5"],
        )
    return steps
