"""The pages that browsers are given: the builds, one of them, and what is said where there is none."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from pybuild.model.errors import EnvironmentFault, UsageError
from pybuild.web.serving import page_at, serving_page
from pybuild.web.site import POLICY
from tests.history.pastbuilds import AT, failing
from tests.history.test_page import read
from tests.web.sites import PageSite, keep_build, on_site, page_site


def test_the_list_has_the_builds_the_latest_first_and_links_to_each(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        assert "No build is known here yet." in (await site.ask("/")).body
        first = keep_build(site.store, name="first", tags=["app:1"])
        second = keep_build(
            site.store,
            failing(),
            at=AT + 1.0,
            name="second",
            status="error",
            error={"message": "exit code: 1"},
        )
        page = read((await site.ask("/")).body)
        links = [attrs.get("href") for tag, attrs in page.elements if tag == "a"]
        assert links[4:] == [f"/builds/{second}", f"/builds/{first}"]
        for words in (
            "first",
            "second",
            "completed",
            "failed",
            "6/6, 1 cached",
            "app:1",
            "2001-09-09 01:46:40 UTC",
        ):
            assert words in page.text, words

    on_site(tmp_path, work)


def test_a_build_that_goes_on_stands_first_with_its_time_so_far(tmp_path: Path) -> None:
    from pybuild.cache.content.buildhistory import Builds

    async def work(site: PageSite) -> None:
        going = Builds(site.store).begin(AT + 90.0, {"name": "going"}, ())
        keep_build(site.store)
        page = read((await site.ask("/")).body)
        assert page.text.index("going") < page.text.index("completed")
        assert "running" in page.text and "10.0s" in page.text
        assert "so far" in (await site.ask(f"/builds/{going.id}")).body
        going.drop()

    on_site(tmp_path, work)


def test_the_page_of_a_build_is_that_of_its_report(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        id = keep_build(site.store, args=["V=1"])
        answer = await site.ask(f"/builds/{id}")
        page = read(answer.body)
        for words in (
            f"build {id}",
            "V=1",
            "The critical path has",
            "because ENV V was",
            "compiling",
        ):
            assert words in page.text, words
        assert page.tags.count("main") == 1
        assert "style" not in page.tags and "script" not in page.tags

    on_site(tmp_path, work)


def test_every_answer_has_the_policy(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        id = keep_build(site.store)
        for target, status in (
            ("/", 200),
            (f"/builds/{id}", 200),
            ("/style.css", 200),
            ("/no", 404),
        ):
            answer = await site.ask(target)
            assert answer.status == status
            assert answer.head["content-security-policy"] == POLICY
            assert answer.head["x-content-type-options"] == "nosniff"
            assert answer.head["referrer-policy"] == "no-referrer"
            assert answer.head["cache-control"] == "no-store"
        assert "default-src 'none'" in POLICY and "unsafe" not in POLICY

    on_site(tmp_path, work)


def test_a_link_leads_on_to_the_builds(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        answer = await site.enter()
        page = read(answer.body)
        refresh = next(attrs for _, attrs in page.elements if "http-equiv" in attrs)
        assert refresh["content"] == "0; url=/"
        head = await site.ask("/", "HEAD")
        assert (head.status, head.body) == (200, "")

    on_site(tmp_path, work, enters=False)


def test_a_build_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        for target in ("/builds/01234567", "/builds/", "/builds/0123456g", "/nothing"):
            answer = await site.ask(target)
            assert answer.status == 404
            assert "<h1>Not found</h1>" in answer.body

    on_site(tmp_path, work)


def test_who_leaves_is_out(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        answer = await site.ask("/leave", "POST", Origin=f"http://{site.name}")
        assert answer.status == 200 and "Max-Age=0" in answer.head["set-cookie"]
        assert (await site.ask("/")).status == 401

    on_site(tmp_path, work)


def test_it_listens_on_both_addresses_of_loopback(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        try:
            with socket.create_connection(("::1", site.port)):
                pass
        except OSError:
            with pytest.raises(OSError), socket.socket(socket.AF_INET6) as own:
                own.bind(("::1", 0))
            pytest.skip("needs an IPv6 address of loopback")

    on_site(tmp_path, work)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        with pytest.raises(
            EnvironmentFault, match=f"cannot listen on port {site.port} of loopback"
        ):
            async with serving_page(site.store, site.port, print):
                pass

    on_site(tmp_path, work)


def test_nobody_else_may_have_the_other_address_of_the_port(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        with socket.socket(socket.AF_INET6) as taken:
            try:
                taken.bind(("::1", 0))
            except OSError:
                pytest.skip("needs an IPv6 address of loopback")
            taken.listen()
            port = int(taken.getsockname()[1])
            with pytest.raises(EnvironmentFault, match=f"port {port} of loopback"):
                async with serving_page(site.store, port, print):
                    pass

    on_site(tmp_path, work)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:8300", "[::]:8300", ":8300", "192.0.2.1:8300", "example.org:1"]
)
def test_only_this_machine_is_served(address: str) -> None:
    with pytest.raises(UsageError, match="loopback alone"):
        page_at(address)


@pytest.mark.parametrize("address", ["8300", "localhost", "localhost:x", "localhost:70000", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="expected HOST:PORT"):
        page_at(address)


def test_several_requests_of_one_connection_are_answered(tmp_path: Path) -> None:
    async def run() -> None:
        async with page_site(tmp_path) as site:
            keep_build(site.store)
            answers = await asyncio.gather(*[site.ask("/") for _ in range(12)])
            assert {answer.status for answer in answers} == {200}

    asyncio.run(run())
