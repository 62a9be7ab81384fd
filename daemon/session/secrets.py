"""Secrets that the client has, as steps and sources want them [MNT-18]."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from google.protobuf.message import DecodeError

from pybuild.buildkit.pb.secrets import GetSecretRequest, GetSecretResponse
from pybuild.buildkit.session.failures import failed
from pybuild.daemon.session.sessions import Session
from pybuild.model.errors import InternalError, UserError
from pybuild.net.grpc.status import Code, RpcError

METHOD = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
_TIMEOUT_S = 60.0
_THREADS = 4  # of a build


async def get_secret(session: Session, id: str) -> bytes | None:
    """Return a secret, or None when the client has none of that id.

    Raises:
        UserError: the client cannot read it. Cancelled: it has gone.
    """
    if not session.offers(METHOD):
        return None
    request = GetSecretRequest(ID=id).SerializeToString()
    try:
        data = await session.unary(METHOD, request, timeout=_TIMEOUT_S)
        return GetSecretResponse.FromString(data).data
    except RpcError as error:
        if error.code in (Code.NOT_FOUND, Code.UNIMPLEMENTED):
            return None
        raise failed(f"secret {id}", error) from error
    except DecodeError as error:
        raise UserError(f"secret {id}: the client's answer cannot be read") from error


class SessionSecrets(Mapping[str, Callable[[], bytes]]):
    """Asks a client's sessions, one after the other, when a secret is looked up; for threads, while
    *loop* runs.

    Which secrets there are is not known before, so iterating gives none. Nothing is kept.

    Args:
        noted: called with each value that is handed out, in a thread.

    Attributes:
        threads: to ask in, so that a client that does not answer keeps no thread from the work of
            others.

    Raises (by `get` and indexing):
        UserError: the client cannot read it. Cancelled: it has gone.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        loop: asyncio.AbstractEventLoop,
        noted: Callable[[bytes], None] = lambda value: None,
    ) -> None:
        self._noted = noted
        self._sessions = sessions
        self._loop = loop
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="secrets")

    def close(self) -> None:
        """Ask nothing any more; idempotent."""
        self.threads.shutdown(wait=False, cancel_futures=True)

    def __getitem__(self, id: str) -> Callable[[], bytes]:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            raise InternalError(f"secret {id} was asked for on the event loop")
        future = asyncio.run_coroutine_threadsafe(self._ask(id), self._loop)
        data = future.result()
        if data is None:
            raise KeyError(id)
        self._noted(data)
        return partial(bytes, data)

    async def _ask(self, id: str) -> bytes | None:
        for number, session in enumerate(list(self._sessions)):
            if number and session.closed.is_set():
                continue  # that of another build, which has ended
            if (data := await get_secret(session, id)) is not None:
                return data
        return None

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
