"""Answers of registries, read without a network: refusals, lists, manifests, search results."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest
from yarl import URL

from pybuild.model.descriptor import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.net.http1.answer import Answer
from pybuild.net.http1.client import Response
from pybuild.net.http1.faults import HttpFault, HungUp, PlainAnswer, Untrusted
from pybuild.registry.client import manifests
from pybuild.registry.client.challenge import (
    Scopes,
    delete_scope,
    parse_challenges,
    pull_scope,
    push_scope,
)
from pybuild.registry.client.faults import ContentFault, error_codes, hints_of, status_text
from pybuild.registry.client.hosts import Endpoint
from pybuild.registry.client.listing import SearchResult, next_page, repositories, search, tags
from pybuild.registry.client.ratelimits import RateLimit
from pybuild.registry.client.referrers import (
    Referrer,
    list_of,
    listed,
    read_list,
    subject_of,
    tag_of,
)
from pybuild.registry.client.taglists import TagLists
from pybuild.registry.client.transport import Request, Transport

HUB, OTHER = Endpoint("docker.io", "registry-1.docker.io"), Endpoint("r.example", "r.example:5000")
REFERENCE = Reference.parse("r.example/a:1")
SUBJECT = Descriptor(OCI_MANIFEST, Digest.of(b"subject"), 7)


def answer(
    status: int = 200, body: object = None, url: str = "https://r.example/v2/x", **headers: str
) -> Response:
    """Return an answer whose body was read."""
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    read = Answer("HEAD")
    read.feed(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{head}\r\n".encode())
    response = Response(URL(url), read, cast(Any, None), lambda connection: None, 1.0, 1)
    response.body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return response


class Site:
    """Gives the answers in turn, and knows what was asked."""

    def __init__(self, *answers: Response) -> None:
        self._answers = list(answers)
        self.requests: list[Request] = []

    async def fetch(self, request: Request, limit: int) -> tuple[Response, bytes]:
        self.requests.append(request)
        response = self._answers.pop(0)
        return response, response.body

    def refusal(self, request: Request, response: Response) -> HttpFault:
        return HttpFault(f"{request.action}: {response.status}")


def at(site: Site) -> Transport:
    return cast(Transport, site)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "errors", "text"),
    [
        (401, None, "401 UNAUTHORIZED"),
        (404, [], "404 NOT FOUND"),
        (418, None, "418"),
        (403, [{"code": "DENIED"}], "403 DENIED"),
        (403, [{"code": "DENIED", "message": ""}], "403 DENIED"),
        (404, [{"code": "NAME_UNKNOWN", "message": "name unknown"}], "404 NAME_UNKNOWN"),
        (404, [{"code": "NAME_UNKNOWN", "message": "no a/b"}], "404 NAME_UNKNOWN: no a/b"),
        (400, [{"code": "A", "message": 3}, {"code": "B", "message": "x"}], "400 A"),
        (500, [{"message": "x"}], "500 INTERNAL SERVER ERROR"),
        (503, [3, {"code": "C", "message": "m\n\x1b"}], "503 C: m"),
    ],
)
def test_the_text_of_a_refusal(status: int, errors: object, text: str) -> None:
    assert status_text(status, json.dumps({"errors": errors}).encode()) == text


def test_bodies_of_another_form_have_no_codes() -> None:
    for body in (b"", b"<html>", b"[]", b'{"errors": {}}', b"[" * 100_000, b'{"errors": [[]]}'):
        assert error_codes(body) == []
    long = json.dumps({"errors": [{"code": "C" * 61, "message": "m" * 301}]}).encode()
    [(code, message)] = error_codes(long)
    assert (len(code), len(message)) == (60, 300)


def test_faults_below_http_have_the_setting_that_would_change_them() -> None:
    assert hints_of(Untrusted("x", authority="h:1"), "F") == [
        'trust its authority: ca = ["FILE"] under [registry."h:1"] in F'
    ]
    assert hints_of(PlainAnswer("x", authority="h:1"), "F") == [
        'if it speaks plain HTTP: http = true under [registry."h:1"] in F'
    ]
    assert hints_of(HungUp("x", authority="h:1"), "F") == [
        "if h:1 wants a certificate of yours, keep it in certs.d"
    ]
    assert hints_of(HttpFault("x", authority="h:1"), "F") == []


@pytest.mark.parametrize(
    ("limit", "remaining", "is_used_up"),
    [
        ("100;w=21600", "0;w=21600", True),
        ("100;w=61", "0", True),
        ("100;w=60", "0", False),
        ("100", "0", False),
        ("100;w=21600", "1;w=21600", False),
        ("100;w=21600", "", False),
        ("", "0;w=3600", True),
    ],
)
def test_a_quota_is_used_up_where_waiting_is_in_vain(
    limit: str, remaining: str, is_used_up: bool
) -> None:
    headers = {"RateLimit-Limit": limit, "RateLimit-Remaining": remaining}
    assert RateLimit.of(headers).is_used_up is is_used_up


@pytest.mark.parametrize(
    ("window", "text"),
    [
        ("7200", " in 2 h"),
        ("120", " in 2 min"),
        ("90", " in 90 s"),
        ("0", ""),
        ("3660", " in 61 min"),
    ],
)
def test_the_window_of_a_quota_is_told_in_the_largest_unit(window: str, text: str) -> None:
    limit = RateLimit.of({"RateLimit-Limit": f"5;w={window}"})
    assert limit.hint("r.example") == (
        f"r.example allows 5 requests{text}: try later, or pull through a mirror"
    )


# --- challenges -----------------------------------------------------------------------------------


def test_scopes_of_actions() -> None:
    assert pull_scope("a/b").texts() == ["repository:a/b:pull"]
    assert push_scope("a").texts() == ["repository:a:pull,push"]
    assert push_scope("a", "b").texts() == ["repository:a:pull,push", "repository:b:pull"]
    assert delete_scope("a").texts() == ["repository:a:delete,pull,push"]
    assert Scopes.parse("", "nothing", "a:b:").texts() == ["a:b:"]
    assert push_scope("a").covers(pull_scope("a"))
    assert not pull_scope("a").covers(push_scope("a"))
    assert not pull_scope("a").covers(pull_scope("b"))
    assert Scopes().covers(Scopes()) and pull_scope("a").covers(Scopes())


def test_parameters_belong_to_their_scheme_and_the_first_of_a_name_counts() -> None:
    header = 'Basic realm="a", Bearer realm="b\\"c",SERVICE=d,service=e'
    basic, bearer = parse_challenges([header])
    assert (basic.scheme, basic.parameters) == ("basic", {"realm": "a"})
    assert (bearer.scheme, bearer.parameters) == ("bearer", {"realm": 'b"c', "service": "d"})
    assert parse_challenges(["realm=a, Basic"]) == []
    assert [one.scheme for one in parse_challenges(["realm=a", "Basic", ""])] == ["basic"]


# --- manifests ------------------------------------------------------------------------------------


def test_the_parts_of_a_manifest_and_the_children_of_an_index() -> None:
    config = Descriptor(OCI_CONFIG, Digest.of(b"c"), 1)
    layers = [Descriptor(OCI_LAYER_GZIP, Digest.of(bytes([n])), 1) for n in range(2)]
    body = {"config": config.to_json(), "layers": [layer.to_json() for layer in layers]}
    assert manifests.parts("m", json.dumps(body).encode()) == (config, layers)
    index = {"manifests": [SUBJECT.to_json()]}
    assert manifests.children("m", json.dumps(index).encode()) == [SUBJECT]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "m: config: descriptor is not an object"),
        ({"config": SUBJECT.to_json()}, "m: layers is not a list"),
        ({"config": SUBJECT.to_json(), "layers": [3]}, "m: layers: descriptor is not an object"),
        ([], "m: is not a JSON object"),
    ],
)
def test_a_manifest_without_its_parts_is_refused(body: object, message: str) -> None:
    with pytest.raises(ContentFault) as caught:
        manifests.parts("m", json.dumps(body).encode())
    assert caught.value.message == message


def test_kinds_of_documents_and_layers() -> None:
    assert manifests.is_manifest_type(OCI_MANIFEST) and manifests.is_manifest_type(OCI_INDEX)
    assert not manifests.is_manifest_type(OCI_CONFIG)
    layer = "application/vnd.oci.image.layer.v1.tar"
    assert manifests.is_distributable(layer)
    assert not manifests.is_distributable("a.nondistributable.b")
    assert not manifests.is_distributable("a.foreign.b")
    for kind in ("json", "prettyjws"):
        with pytest.raises(UserError, match="^x: the image is stored in the retired schema 1"):
            manifests.refuse_schema_1(
                "x", f"application/vnd.docker.distribution.manifest.v1+{kind}"
            )
    manifests.refuse_schema_1("x", OCI_MANIFEST)
    assert manifests.ACCEPT.startswith(f"{OCI_INDEX}, {OCI_MANIFEST}, ")
    assert manifests.ACCEPT.count(OCI_INDEX) == 1


def test_bytes_are_compared_with_their_digest_and_size() -> None:
    manifests.verify("m", b"data", Digest.of(b"data"))
    manifests.verify("m", b"data", Digest.of(b"data"), 4)
    for expected, size, whole in ((Digest.of(b"x"), None, 4), (Digest.of(b"data"), 5, 5)):
        with pytest.raises(ContentFault, match=f"after 4 of {whole} bytes$"):
            manifests.verify("m", b"data", expected, size)


@pytest.mark.parametrize("value", [3, {}, ["a", 3], [None]])
def test_a_list_of_names_is_one_of_texts(value: object) -> None:
    with pytest.raises(ContentFault, match="^m: tags is not a list of texts$"):
        manifests.tag_names("m", json.dumps({"tags": value}).encode())


# --- lists ----------------------------------------------------------------------------------------


def test_pages_are_followed_on_the_same_server_and_each_name_is_listed_once() -> None:
    site = Site(
        answer(body={"tags": ["b", "a"]}, Link='</v2/x?last=a>; rel="next"'),
        answer(body={"tags": ["a", "c"]}, Link="<https://r.example/v2/y>; REL=next"),
        answer(body={"tags": None}),
    )
    assert asyncio.run(tags(at(site), OTHER, REFERENCE)) == ["b", "a", "c"]
    first, second, third = site.requests
    assert (first.path, first.url) == ("/a/tags/list", "")
    assert (first.scopes, first.method) == (pull_scope("a"), "GET")
    assert (second.path, second.url) == ("", "https://r.example/v2/x?last=a")
    assert third.url == "https://r.example/v2/y"


def test_pages_that_go_round_end_there() -> None:
    pages = [answer(body={"tags": [str(n)]}, Link="</v2/x>; rel=next") for n in range(3)]
    assert asyncio.run(tags(at(Site(*pages)), OTHER, REFERENCE)) == ["0", "1"]


@pytest.mark.parametrize(
    ("link", "following"),
    [
        ("", ""),
        ('</v2/y>; rel="prev"', ""),
        ('</v2/y>; rel="next"', "https://r.example/v2/y"),
        ("</v2/y>;rel=next", "https://r.example/v2/y"),
        ('</v2/y>; title="t"; rel="next"', "https://r.example/v2/y"),
        ('<https://evil.example/v2/y>; rel="next"', ""),
        ('<http://r.example/v2/y>; rel="next"', ""),
    ],
)
def test_the_next_page(link: str, following: str) -> None:
    assert next_page(answer(Link=link)) == following


def test_a_list_that_is_refused_is_an_error() -> None:
    with pytest.raises(HttpFault, match="^list tags of r.example/a: 403$"):
        asyncio.run(tags(at(Site(answer(403))), OTHER, REFERENCE))
    site = Site(answer(body={"repositories": ["a", "b"]}))
    assert asyncio.run(repositories(at(site), OTHER)) == ["a", "b"]
    assert site.requests[0].scopes.texts() == ["registry:catalog:*"]


# --- search ---------------------------------------------------------------------------------------


def test_results_of_a_search() -> None:
    body = {
        "results": [
            {"name": "a", "description": "d\n", "star_count": 3, "is_official": True},
            {"name": "b", "description": None, "star_count": "many", "is_official": 1},
            {"name": "c"},
        ]
    }
    site = Site(answer(body=body))
    assert asyncio.run(search(at(site), HUB, "term", 2)) == [
        SearchResult(name="a", description="d", stars=3, is_official=True),
        SearchResult(name="b"),
    ]
    [request] = site.requests
    assert (request.endpoint.netloc, request.endpoint.prefix) == ("index.docker.io", "/v1")
    assert request.query == (("q", "term"), ("n", "2"))
    site = Site(answer(body=body))
    asyncio.run(search(at(site), OTHER, "term", 2))
    assert site.requests[0].endpoint.netloc == "r.example:5000"


def test_where_there_is_no_search_the_repositories_are_looked_through() -> None:
    names = ["a/Term", "other", "b/term", "c/term"]
    site = Site(answer(404), answer(body={"repositories": names}))
    found = asyncio.run(search(at(site), OTHER, "TERM", 2))
    assert [result.name for result in found] == ["a/Term", "b/term"]
    with pytest.raises(HttpFault, match="^search docker.io: 404$"):
        asyncio.run(search(at(Site(answer(404))), HUB, "term", 2))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "results is not a list"),
        ({"results": [{"name": None}]}, "a result has no name"),
        ({"results": [3]}, "a result has no name"),
    ],
)
def test_broken_results_are_refused(body: object, message: str) -> None:
    with pytest.raises(ContentFault, match=message):
        asyncio.run(search(at(Site(answer(body=body))), OTHER, "term", 2))


# --- referrers ------------------------------------------------------------------------------------


def artifact(**more: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "subject": SUBJECT.to_json(), **more}).encode()


def test_an_entry_of_referrers_comes_back_as_it_was() -> None:
    plain = Referrer(Descriptor(OCI_MANIFEST, Digest.of(b"x"), 1, {"a": "b"}, LINUX_AMD64))
    typed = Referrer(plain.descriptor, "kind/x")
    assert list(typed.to_json()) == [
        *("mediaType", "digest", "size", "artifactType"),
        *[key for key in plain.to_json() if key not in ("mediaType", "digest", "size")],
    ]
    assert "artifactType" not in plain.to_json()
    assert read_list("l", list_of([plain, typed])) == [plain, typed]
    assert Referrer.from_json({**plain.to_json(), "artifactType": 3}) == plain


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"artifactType": "a/b"}, "a/b"),
        ({"artifactType": "a/b", "config": {"mediaType": "c/d"}}, "a/b"),
        ({"config": {"mediaType": "c/d"}}, "c/d"),
        ({"artifactType": "", "config": {"mediaType": "c/d"}}, "c/d"),
        ({"config": {"mediaType": 3}}, ""),
        ({"config": 3}, ""),
        ({}, ""),
    ],
)
def test_the_kind_of_an_artifact(more: dict[str, object], kind: str) -> None:
    data = artifact(**more, annotations={"n": 1})
    described = Descriptor(OCI_MANIFEST, Digest.of(data), len(data), {"n": "1"})
    assert subject_of(data, OCI_MANIFEST) == (SUBJECT.digest, Referrer(described, kind))


def test_a_manifest_without_a_subject_refers_to_nothing() -> None:
    assert subject_of(artifact(subject=None), OCI_MANIFEST) is None
    with pytest.raises(ContentFault, match="subject: descriptor lacks"):
        subject_of(artifact(subject={"x": 1}), OCI_MANIFEST)


def test_the_tag_of_a_list_is_cut_to_what_tags_may_be() -> None:
    assert tag_of(SUBJECT.digest) == f"sha256-{SUBJECT.digest.hex}"
    sha512 = Digest("sha512:" + "ab" * 64)
    assert tag_of(sha512) == "sha512-" + "ab" * 32


def test_referrers_are_asked_for_page_by_page() -> None:
    one, two = (Referrer(Descriptor(OCI_MANIFEST, Digest.of(bytes([n])), 1)) for n in range(2))
    site = Site(
        answer(body=list_of([one]), Content_Type=OCI_INDEX, Link="</v2/y>; rel=next"),
        answer(body=list_of([two]), Content_Type=OCI_INDEX),
    )
    found = asyncio.run(listed(at(site), OTHER, REFERENCE, SUBJECT.digest))
    assert found == [one, two]
    assert site.requests[0].path == f"/a/referrers/{SUBJECT.digest}"
    assert site.requests[1].url == "https://r.example/v2/y"


def test_a_registry_may_keep_no_lists_of_referrers() -> None:
    for response in (answer(404), answer(200, b"<html>", Content_Type="text/html")):
        site = Site(response)
        assert asyncio.run(listed(at(site), OTHER, REFERENCE, SUBJECT.digest)) is None
    first = answer(body=list_of([]), Content_Type=OCI_INDEX, Link="</v2/y>; rel=next")
    for responses in ((answer(500),), (first, answer(404))):
        with pytest.raises(HttpFault, match="^list referrers of r.example/a@sha256:"):
            asyncio.run(listed(at(Site(*responses)), OTHER, REFERENCE, SUBJECT.digest))


class Tags:
    """Tags of a registry; each write is noted."""

    def __init__(self) -> None:
        self.lists: dict[str, bytes] = {}
        self.writes = 0

    async def read(self, reference: Reference) -> bytes | None:
        return self.lists.get(str(reference))

    async def write(self, reference: Reference, data: bytes) -> None:
        self.writes += 1
        self.lists[str(reference)] = data


def test_lists_under_tags_gain_and_lose_entries_and_are_written_only_when_they_change() -> None:
    site = Tags()
    lists = TagLists(site.read, site.write)
    one, two = artifact(artifactType="one"), artifact(artifactType="two")

    async def kinds() -> list[str]:
        return [one.artifact_type for one in await lists.of(REFERENCE, SUBJECT.digest)]

    async def work() -> None:
        assert await kinds() == []
        for data in (one, two, one):
            await lists.add(REFERENCE, OCI_MANIFEST, data)
        assert (await kinds(), site.writes) == (["one", "two"], 2)
        assert list(site.lists) == [f"r.example/a:{tag_of(SUBJECT.digest)}"]
        await lists.add(REFERENCE, OCI_MANIFEST, artifact(subject=None))
        await lists.drop(REFERENCE, OCI_MANIFEST, artifact(subject=None))
        await lists.drop(REFERENCE, OCI_MANIFEST, artifact(artifactType="three"))
        assert site.writes == 2
        await lists.drop(REFERENCE, OCI_MANIFEST, one)
        assert (await kinds(), site.writes) == (["two"], 3)

    asyncio.run(work())
