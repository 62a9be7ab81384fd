"""Why steps of builds ran on a server, as far as it is one of ours."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from pybuild.buildkit.methods import EXPLAIN_REPORTS
from pybuild.client.failures import failure
from pybuild.explain.report import BuildReport, from_json
from pybuild.model.errors import UserError
from pybuild.model.jsontext import parse
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.status import Code, RpcError


async def reports(
    channel: Channel, *, ref: str | None = None, everything: bool = False
) -> list[BuildReport]:
    """Return reports of builds, the latest first: that of one request, all, or the latest.

    Raises:
        UserError: the server does not keep any.
    """
    options = {"all": True} if everything else {} if ref is None else {"ref": ref}
    reports: list[BuildReport] = []
    try:
        async with aclosing(_messages(channel, json.dumps(options).encode())) as messages:
            async for message in messages:
                try:
                    reports.append(from_json(parse(message)))
                except ValueError:
                    continue  # a newer pybuild's
    except RpcError as error:
        if error.code is Code.UNIMPLEMENTED:
            raise UserError(
                "this build server does not say why steps ran",
                hints=("servers that pybuild daemon runs do",),
            ) from error
        raise failure(error) from error
    return reports


async def _messages(channel: Channel, options: bytes) -> AsyncGenerator[bytes]:
    async with channel.stream(EXPLAIN_REPORTS) as call:
        await call.send(options)
        await call.half_close()
        while (message := await call.receive()) is not None:
            yield message
