"""Who comes in to the page: links that open once, sessions that end, requests that a page of somebody else's began."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from pybuild.web.access import (
    ENTRANCE,
    MOST_SESSIONS,
    SESSION_S,
    Asking,
    BrowserAccess,
    PageRefusal,
    own_names,
)

NAMES = own_names(8300, "pybuild-abc")
HOST = "pybuild-abc.localhost:8300"
ASKING = Asking(method="GET", target="/", hosts=(HOST,))


class Door:
    """An `BrowserAccess` with a clock that a test turns, and the tokens of its links."""

    def __init__(self) -> None:
        self.now = 0.0
        self.links: list[str] = []
        self.access = BrowserAccess(NAMES, 8300, lambda: self.now, self.links.append)
        self.access.make_link()

    @property
    def token(self) -> str:
        return urlsplit(self.links[-1]).path.removeprefix(ENTRANCE)

    def enter(self) -> str:
        """Come in; return the pair that a browser sends back."""
        return self.access.enter(self.token).partition(";")[0]


def test_a_link_opens_once_and_the_next_one_is_another() -> None:
    door = Door()
    token = door.token
    assert door.links[0].startswith(f"http://{HOST}/enter/")
    cookie = door.access.enter(token)
    assert cookie.startswith("pybuild-8300=")
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict")
    door.access.admit([cookie.partition(";")[0]])
    with pytest.raises(PageRefusal, match="has been used"):
        door.access.enter(token)
    assert len(door.links) == 2 and door.token != token


def test_a_session_ends_a_day_after_its_last_request() -> None:
    door = Door()
    pair = door.enter()
    for _ in range(3):
        door.now += SESSION_S
        door.access.admit([pair])
    door.now += SESSION_S + 1.0
    with pytest.raises(PageRefusal, match="opens by the link"):
        door.access.admit([pair])


def test_a_session_ends_when_its_browser_leaves() -> None:
    door = Door()
    first, second = door.enter(), door.enter()
    assert "Max-Age=0" in door.access.leave([first])
    with pytest.raises(PageRefusal):
        door.access.admit([first])
    door.access.admit([second])


def test_the_session_that_was_used_longest_ago_makes_room() -> None:
    door = Door()
    pairs: list[str] = []
    for _ in range(MOST_SESSIONS + 1):
        door.now += 1.0
        pairs.append(door.enter())
        door.access.admit([pairs[0]])
    door.access.admit([pairs[0]])
    with pytest.raises(PageRefusal):
        door.access.admit([pairs[1]])


def test_another_server_of_this_host_that_sets_our_cookie_locks_nobody_out() -> None:
    door = Door()
    pair = door.enter()
    door.access.admit([f"other=1; pybuild-8300=planted; {pair}"])
    door.access.admit(["pybuild-8300=planted", pair])


@pytest.mark.parametrize("host", NAMES)
def test_its_own_names_are_answered(host: str) -> None:
    access = Door().access
    access.check(replace(ASKING, hosts=(host.upper(),)))
    access.check(
        replace(ASKING, hosts=(host,), origins=(f"http://{host}",), sites=("same-origin",))
    )
    access.check(replace(ASKING, method="POST", hosts=(host,), origins=(f"http://{host}",)))


def test_a_link_may_be_followed_from_a_page() -> None:
    Door().access.check(replace(ASKING, target=ENTRANCE + "x", sites=("cross-site",)))
    with pytest.raises(PageRefusal):
        Door().access.check(
            replace(ASKING, method="HEAD", target=ENTRANCE + "x", sites=("cross-site",))
        )


def test_the_port_of_http_may_be_left_out() -> None:
    assert set(own_names(80, "x")) >= {"127.0.0.1", "127.0.0.1:80", "x.localhost"}
