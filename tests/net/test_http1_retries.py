"""Tries of requests and redirects, with answers by hand: what goes on, what waits, what ends [REG-11]."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import Any, cast

import pytest
from yarl import URL

from pybuild.net.http1.answer import Answer
from pybuild.net.http1.client import Response, origin_of
from pybuild.net.http1.faults import BadRedirect, ConnectionLost, HttpFault, NotTls
from pybuild.net.http1.patience import Patience
from pybuild.net.http1.proxies import Proxy, proxy_for
from pybuild.net.http1.redirects import follow, joined, onward
from pybuild.net.http1.retries import HttpLimits, Retries

LOST = ConnectionLost("connection cut")
UNSENT = ConnectionLost("no such host", unsent=True, tries=3)


def answer(status: int, url: str = "https://h.example/", **headers: str) -> Response:
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    read = Answer("HEAD")
    read.feed(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode())
    return Response(URL(url), read, cast(Any, None), lambda connection: None, 1.0, 1)


def always(response: Response) -> bool:
    return True


def described(response: Response) -> str:
    return f"{response.status} X"


class Server:
    """Gives answers in turn, the last one for ever; knows the waits in between."""

    def __init__(self, *answers: Response | Exception, **options: Any) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.waits: list[float] = []
        limits = options.pop("limits", HttpLimits())
        self.retries = Retries(
            limits, sleep=self._sleep, now=lambda: 1000.0, jitter=lambda: 1.0, **options
        )

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def _once(self) -> Response:
        self.asked += 1
        given = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(given, Exception):
            raise given
        return given

    def status(self, **options: Any) -> int:
        return asyncio.run(self.retries.send("h", self._once, **options)).status


@pytest.mark.parametrize("status", [200, 206, 301, 400, 401, 404, 501])
def test_an_answer_is_taken_at_once(status: int) -> None:
    server = Server(answer(status))
    assert (server.status(), server.asked, server.waits) == (status, 1, [])


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_passes_is_asked_for_again(status: int) -> None:
    server = Server(answer(status), answer(200))
    assert (server.status(), server.asked, server.waits) == (200, 2, [0.25])


def test_waits_double_up_to_the_longest_and_the_last_answer_counts() -> None:
    server = Server(answer(503))
    assert (server.status(), server.asked) == (503, 10)
    assert server.waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]
    few = Server(answer(503))
    assert (few.status(attempts=2), few.asked, few.waits) == (503, 2, [0.25])


@pytest.mark.parametrize(("jitter", "wait"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_waits_are_spread(jitter: float, wait: float) -> None:
    retries = Retries(HttpLimits(backoff_s=1.0), jitter=lambda: jitter)
    assert retries.backoff(0) == wait
    assert retries.backoff(1) == 2 * wait
    assert retries.backoff(100_000) == 8 * wait


@pytest.mark.parametrize(
    ("text", "waits"),
    [
        ("7", [7.0]),
        ("0", [0.25]),
        ("soon", [0.25]),
        ("-7", [0.25]),
        ("60", [60.0]),
        (formatdate(1007, usegmt=True), [7.0]),
        (formatdate(993, usegmt=True), [0.25]),
    ],
)
def test_a_server_may_say_how_long_to_wait(text: str, waits: list[float]) -> None:
    server = Server(answer(429, Retry_After=text), answer(200))
    assert (server.status(), server.waits) == (200, waits)


@pytest.mark.parametrize("text", ["61", "99999999999999", formatdate(1061, usegmt=True)])
def test_a_server_that_wants_a_longer_wait_is_given_up(text: str) -> None:
    server = Server(answer(429, Retry_After=text), answer(200))
    assert (server.status(), server.asked, server.waits) == (429, 1, [])


def test_an_answer_may_be_final_although_its_status_passes() -> None:
    server = Server(answer(429), answer(200), is_final=always)
    assert (server.status(), server.asked) == (429, 1)


def test_what_must_not_be_done_twice_is_tried_again_only_when_it_surely_had_no_effect() -> None:
    server = Server(answer(503), answer(200))
    assert (server.status(repeatable=False), server.asked) == (503, 1)
    server = Server(LOST, answer(200))
    with pytest.raises(ConnectionLost, match="cut"):
        server.status(repeatable=False)
    assert server.asked == 1
    server = Server(UNSENT, answer(200))
    assert (server.status(repeatable=False), server.asked) == (200, 2)


def test_lost_connections_are_worth_so_many_tries() -> None:
    server = Server(LOST, answer(200))
    assert (server.status(), server.waits) == (200, [0.25])
    for error, tries in ((LOST, 10), (UNSENT, 3), (NotTls("x", tries=1), 1)):
        server = Server(error)
        with pytest.raises(ConnectionLost):
            server.status()
        assert (server.asked, len(server.waits)) == (tries, tries - 1)


def test_other_faults_are_not_tried_again() -> None:
    server = Server(HttpFault("no"))
    with pytest.raises(HttpFault, match="no"):
        server.status()
    assert server.asked == 1


class Hand:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_a_host_is_asked_until_patience_with_it_is_over() -> None:
    patience = Patience(1.5, 60.0, Hand())
    server = Server(answer(503), patience=patience, describe=described)
    # The clock stands still; a wait that would end the budget is not begun.
    assert (server.status(), server.waits) == (503, [0.25, 0.5, 1.0])
    server = Server(LOST, patience=Patience(1.5, 60.0, Hand()))
    with pytest.raises(ConnectionLost):
        server.status()
    assert server.waits == [0.25, 0.5, 1.0]


def test_a_good_answer_restores_patience_and_a_bad_one_is_remembered() -> None:
    hand = Hand()
    patience = Patience(5.0, 60.0, hand)
    server = Server(answer(503), answer(404), patience=patience, describe=described)
    assert server.status() == 404
    hand.time = 10.0
    assert not patience.is_over("h")
    server = Server(answer(503), patience=patience, describe=described)
    assert server.status(attempts=1) == 503
    hand.time = 15.0
    with pytest.raises(HttpFault, match="^503 X: not asked again for a while$"):
        server.status()
    assert server.asked == 1
    hand.time = 75.0
    with pytest.raises(HttpFault, match="503 X"):
        server.status()
    hand.time = 75.1
    assert server.status(attempts=1) == 503


def test_the_impatient_wait_as_long_as_their_budget() -> None:
    server = Server(answer(503), limits=HttpLimits(attempts=2))
    assert server.retries.idle_s is None
    impatient = server.retries.impatient(HttpLimits(attempts=1), Patience(5.0, 60.0, Hand()))
    assert impatient.idle_s == 5.0
    asyncio.run(impatient.pause(1))
    assert server.waits == [0.5]


# --- redirects ------------------------------------------------------------------------------------


class Sites:
    """Redirects by URL; all else is there."""

    def __init__(self, status: int = 307) -> None:
        self.status = status
        self.locations: dict[str, str] = {}
        self.asked: list[tuple[str, bool]] = []

    async def ask(self, url: URL, at_home: bool) -> Response:
        self.asked.append((str(url), at_home))
        location = self.locations.get(str(url))
        if location is None:
            return answer(200, str(url))
        return answer(self.status, str(url), **({"Location": location} if location else {}))

    def follow(
        self, url: str, method: str = "GET", home: str = "", **more: bool
    ) -> tuple[Response, bool]:
        origin = origin_of(URL(home or url))
        return asyncio.run(follow(self.ask, URL(url), origin, method, **more))


A, B = "https://a.example/", "https://b.example/"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_and_secrets_stay_at_home(status: int) -> None:
    sites = Sites(status)
    sites.locations = {A: "/x", A + "x": B, B: A + "y"}
    response, at_home = sites.follow(A)
    assert (str(response.url), at_home) == (A + "y", False)
    assert sites.asked == [(A, True), (A + "x", True), (B, False), (A + "y", False)]
    assert response.left == origin_of(URL(A))
    response, at_home = sites.follow(A + "z")
    assert (at_home, response.left) == (True, None)


def test_who_is_not_at_home_at_first_never_is() -> None:
    sites = Sites()
    response, at_home = sites.follow(B, home=A)
    assert (str(response.url), at_home, sites.asked) == (B, False, [(B, False)])


@pytest.mark.parametrize(
    ("status", "method", "is_followed"),
    [
        (302, "GET", True),
        (302, "HEAD", True),
        (302, "PUT", False),
        (303, "POST", False),
        (307, "PUT", True),
        (308, "POST", True),
        (304, "GET", False),
        (300, "GET", False),
    ],
)
def test_what_changes_something_goes_on_only_where_its_method_is_kept(
    status: int, method: str, is_followed: bool
) -> None:
    sites = Sites(status)
    sites.locations = {A: B}
    response, _ = sites.follow(A, method)
    assert response.status == (200 if is_followed else status)


def test_a_redirect_to_nowhere_is_the_answer() -> None:
    sites = Sites()
    sites.locations = {A: ""}
    assert sites.follow(A)[0].status == 307


def test_tls_is_left_only_where_it_may_be() -> None:
    sites = Sites()
    sites.locations = {A: "http://c.example/"}
    with pytest.raises(BadRedirect, match="^redirect to plain HTTP at c.example$"):
        sites.follow(A)
    assert sites.follow(A, may_leave_tls=True)[0].status == 200
    plain = "http://d.example/"
    sites.locations = {plain: "http://c.example/"}
    assert sites.follow(plain)[0].status == 200


def test_ten_redirects_are_enough() -> None:
    sites = Sites()
    sites.locations = {f"{A}{n}": f"{A}{n + 1}" for n in range(11)}
    assert sites.follow(A + "1")[0].status == 200
    with pytest.raises(BadRedirect, match="^more than 10 redirects$"):
        sites.follow(A + "0")


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/y", "https://a.example/y"),
        ("y?q=1", "https://a.example/d/y?q=1"),
        ("//b.example/z", "https://b.example/z"),
        ("http://b.example/", "http://b.example/"),
        ("/a%2Fb", "https://a.example/a%2Fb"),
        ("/a b", "https://a.example/a%20b"),
        ("/ä", "https://a.example/%C3%A4"),
    ],
)
def test_where_a_location_leads(location: str, target: str) -> None:
    assert str(joined(URL("https://a.example/d/x"), location)) == target


@pytest.mark.parametrize(
    "location", ["ftp://b.example/", "file:///x", "/\\b", "http://", "/\n", "http://[x/"]
)
def test_what_is_no_url_leads_nowhere(location: str) -> None:
    with pytest.raises(BadRedirect, match="not a URL$"):
        joined(URL(A), location)


def test_a_stranger_leads_nobody_back_home() -> None:
    response = answer(202, B)
    assert str(onward(response, "/x")) == B + "x"
    assert str(onward(response, A)) == A
    response.left = origin_of(URL(A))
    assert str(onward(response, "/x")) == B + "x"
    with pytest.raises(BadRedirect, match="^b.example leads back to a.example$"):
        onward(response, A + "x")


# --- proxies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exempt", "host", "port", "is_straight"),
    [
        ("", "h.example", 443, False),
        (" h.example , other", "h.example", 443, True),
        ("H.EXAMPLE", "h.example", 443, True),
        ("h.example", "H.Example", 443, True),
        ("*.example", "h.example", 443, True),
        ("*.example", "example", 443, False),
        (".example", "example", 443, False),
        ("example", "example", 443, True),
        ("h.example:443", "h.example", 443, True),
        ("h.example:80", "h.example", 443, False),
        ("h.example:x", "h.example", 443, False),
        ("10.0.0.1", "10.0.0.1", 443, True),
        ("10.0.0.1:443", "10.0.0.1", 443, True),
        ("10.0.0.1:80", "10.0.0.1", 443, False),
        ("10.0.0.2", "10.0.0.1", 443, False),
        ("10.0.0.9/8", "10.1.1.1", 443, True),
        ("[fe80::1]", "fe80::1", 443, True),
        ("[fe80::1]:443", "fe80::1", 443, True),
        ("[fe80::1]:80", "fe80::1", 443, False),
        ("fe80::/16", "fe80::2", 443, True),
        ("", "localhost", 443, True),
        ("", "LOCALHOST", 443, True),
        ("", "127.1.2.3", 443, True),
        ("", "::1", 443, True),
        ("", "my-localhost", 443, False),
    ],
)
def test_who_is_asked_without_the_proxy(
    exempt: str, host: str, port: int, is_straight: bool
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        environ = {"https_proxy": "p.example:1", name: exempt}
        expected = None if is_straight else Proxy("http://p.example:1", "https_proxy")
        assert proxy_for("https", host, port, environ) == expected


def test_the_proxy_is_that_of_the_scheme() -> None:
    environ = {"HTTP_PROXY": "a:1", "https_proxy": "socks5://b:2", "HTTPS_PROXY": "c:3"}
    assert proxy_for("http", "h.example", 80, environ) == Proxy("http://a:1", "HTTP_PROXY")
    assert proxy_for("https", "h.example", 443, environ) == Proxy("socks5://b:2", "https_proxy")
    mixed = {"https_proxy": "", "HTTPS_PROXY": "c:3", "no_proxy": "", "NO_PROXY": "h.example"}
    assert proxy_for("https", "h.example", 443, mixed) is None
    assert proxy_for("https", "i.example", 443, mixed) == Proxy("http://c:3", "HTTPS_PROXY")
