"""An HTTP/1.1 answer being read, without I/O: llhttp takes the bytes apart, as it does for aiohttp.

What a stranger's server may send is bounded: the head in its length, interim answers by that too, and
what stands between the bytes of a body, such as chunk extensions and trailers.
"""

from __future__ import annotations

from collections import deque

import httptools
from multidict import CIMultiDict

_MOST_HEAD_BYTES = 64 << 10
_WITHOUT_BODY = (204, 304)


class BadAnswer(Exception):
    """Not HTTP, or more of it than anybody needs."""


class Answer:
    """One answer; feed it until it is complete.

    Attributes:
        status, headers: there when `has_head`.
        pieces: of the body, as they came; the reader takes them out.
        is_complete: nothing more belongs to it.
        keeps: another request may follow on this connection; known when it is complete.
    """

    def __init__(self, method: str) -> None:
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.pieces: deque[bytes] = deque()
        self.has_head = self.is_complete = self.keeps = False
        self._is_headless = method in ("HEAD", "CONNECT")  # no body follows, whatever the head says
        self._is_interim = self._ends_with_connection = self._is_strange = False
        self._idle_bytes = 0  # since the head began, or the last piece of the body came
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection.

        Raises:
            BadAnswer: they make no sense.
        """
        if self.is_complete:
            self.keeps = False  # nobody has asked for that
            return
        pieces = len(self.pieces)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            if not self.is_complete:
                raise BadAnswer("it wants to go on in another protocol") from error
            self.keeps = False
        except httptools.HttpParserError as error:
            if not self.is_complete:
                raise BadAnswer(str(error)) from error
            self.keeps = False
        if self._is_strange:
            raise BadAnswer("its status is none")
        if self.is_complete or len(self.pieces) > pieces:
            self._idle_bytes = 0
            return
        self._idle_bytes += len(data)
        if self._idle_bytes > _MOST_HEAD_BYTES:
            what = "there is more than" if self.has_head else "its head is longer than"
            where = " in which nothing of its body is" if self.has_head else ""
            raise BadAnswer(f"{what} {_MOST_HEAD_BYTES} bytes{where}")

    def end(self) -> bool:
        """Take the end of the connection; tell whether the answer is whole."""
        self.is_complete = self.is_complete or (self.has_head and self._ends_with_connection)
        self.keeps = False
        return self.is_complete

    # --- called by the parser ---------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.is_complete:
            self.keeps = False  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_head:  # what follows a body is of no use here
            self.headers.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        if self.has_head:
            return
        status = self._parser.get_status_code()
        if status < 100:
            self._is_strange = True  # and no head, or it would be handed out before the refusal
            return
        if status < 200:
            self._is_interim = True
            self.headers.clear()
            return
        self.status, self.has_head = status, True
        self.keeps = self._parser.should_keep_alive()
        if self._is_headless:
            self.is_complete = True
            return
        is_sized = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        self._ends_with_connection = not is_sized and status not in _WITHOUT_BODY

    def on_body(self, data: bytes) -> None:
        if self.is_complete:
            self.keeps = False
        else:
            self.pieces.append(data)

    def on_message_complete(self) -> None:
        if self._is_interim:
            self._is_interim = False
        else:
            self.is_complete = True
