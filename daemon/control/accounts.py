"""Reports of why steps of a server's builds ran: kept as a build in process keeps them.

BuildKit's API has no place for that, so this is a service of our own beside it, in JSON:
``/pybuild.v1.Explain/Reports`` is asked for ``{}`` (the latest build), ``{"ref": …}`` (of one request)
or ``{"all": true}``, and answers with a message a build, the latest first.
All are builds of whoever asks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import field
from itertools import islice
from typing import TYPE_CHECKING, Any

from pybuild.buildkit.methods import EXPLAIN_REPORTS
from pybuild.cache.content.buildhistory import Builds, OpenRecord
from pybuild.daemon.control.tenant import Tenant
from pybuild.daemon.control.workplaces import Workplace, Workplaces
from pybuild.explain import history
from pybuild.explain.account import Account
from pybuild.explain.cause import Surroundings
from pybuild.explain.report import BuildReport
from pybuild.frontend.syntax.ast import Dockerfile
from pybuild.model.dataclass import dataclass
from pybuild.model.jsontext import as_object, parse
from pybuild.model.ops import Vertex
from pybuild.model.snapshot import LocalTree
from pybuild.net.grpc.calls import Handler, IncomingCall

if TYPE_CHECKING:
    from pybuild.cache.records.imported import ImportedCache

_MOST_REFS = 200


@dataclass(slots=True, kw_only=True)
class BuildAccount:
    """The facts of one build, for its explanation, gathered while it goes on.

    Attributes:
        targets: the solved vertices.
        trees: of the client, as far as they were fetched.
    """

    steps: Account
    started: float
    context: str = "context"
    filename: str = ""
    target: str = ""
    dockerfile: Dockerfile | None = None
    targets: list[Vertex] = field(default_factory=list[Vertex])
    trees: Mapping[str, LocalTree] = field(default_factory=dict[str, LocalTree])
    imports: Sequence[ImportedCache] = ()

    def subject(self) -> history.BuildSubject:
        return history.BuildSubject(
            context=self.context,
            dockerfile=self.filename,
            target=self.target,
            targets=self.targets,
            reported=(),
            around=Surroundings(
                dockerfile=self.dockerfile,
                trees=self.trees,
                files={},
                started=self.started,
            ),
        )


class Accounts:
    """The reports of one server's builds."""

    def __init__(self, tenant: Callable[[str], Tenant[Any]], workplaces: Workplaces) -> None:
        self._tenant = tenant
        self._workplaces = workplaces
        self._going: set[asyncio.Task[BuildReport | None]] = set()

    def keep(
        self,
        tenant: Tenant[Any],
        workplace: Workplace,
        ref: str,
        account: BuildAccount,
        record: OpenRecord | None,
    ) -> asyncio.Task[BuildReport | None]:
        """Explain a build that has ended, and end its record, beside whatever comes next."""
        kept = ExitStack()
        kept.enter_context(self._workplaces.kept(workplace))
        task = asyncio.create_task(self._keep(tenant, workplace, ref, account, record))
        task.add_done_callback(lambda _: kept.close())
        self._going.add(task)
        task.add_done_callback(self._going.discard)
        return task

    async def _keep(
        self,
        tenant: Tenant[Any],
        workplace: Workplace,
        ref: str,
        account: BuildAccount,
        record: OpenRecord | None,
    ) -> BuildReport | None:
        if record is None:
            return None  # a guest's: the nearest result may be somebody else's, and a report would tell of it
        engine = workplace.engine
        error = record.facts.get("error")
        report = await history.explain(
            record,
            engine.store,
            engine.results.inputs,
            account.steps,
            account.subject(),
            account.imports,
            error["message"] if error else "",
        )
        record.end("error" if error else "completed")
        if report is not None:
            tenant.reports[ref] = report.id
            if len(tenant.reports) > _MOST_REFS:
                del tenant.reports[next(iter(tenant.reports))]
        return report

    async def settled(self) -> None:
        """Wait until the builds that have ended so far are kept."""
        await asyncio.gather(*self._going, return_exceptions=True)

    def handlers(self) -> Mapping[str, Handler]:
        return {EXPLAIN_REPORTS: self._reports}

    async def _reports(self, call: IncomingCall) -> None:
        options = as_object(parse(await call.receive() or b"{}"))
        tenant = self._tenant(call.peer.owner)
        await call.send_headers()
        await self.settled()
        async with aclosing(self._selected(tenant, options)) as selected:
            async for value in selected:
                await call.send(json.dumps(value, separators=(",", ":")).encode())

    async def _selected(
        self, tenant: Tenant[Any], options: Mapping[str, Any]
    ) -> AsyncGenerator[Mapping[str, Any]]:
        ref = options.get("ref")
        most = None if ref is not None or options.get("all") else 1
        async with self._workplaces.of(tenant.owner) as workplace:
            if workplace.guest:
                return
            rows = islice(Builds(workplace.engine.store).latest(), most)
            while (value := await asyncio.to_thread(next, rows, None)) is not None:
                if ref is None:
                    yield value
                elif value.get("id") == tenant.reports.get(str(ref)):
                    yield value
                    return
