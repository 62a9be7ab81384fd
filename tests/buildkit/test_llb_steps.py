"""Definitions as provenance shows them [ATT-2]."""

from __future__ import annotations

import json

from pybuild.buildkit.llb.queries import LocalQuery
from pybuild.buildkit.llb.steps import describe, local_vertex
from pybuild.model.digest import Digest
from pybuild.model.ops import (
    Copy,
    ExecOp,
    FileOp,
    GitSource,
    HttpSource,
    ImageSource,
    LocalSource,
    Mkfile,
    Mount,
    OciLayoutSource,
    Owner,
    ScratchSource,
    Vertex,
    VertexMeta,
)
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.model.span import Span

NAME = "Dockerfile"


def at(line: int) -> VertexMeta:
    return VertexMeta(spans=(Span(NAME, line, line),))


IMAGE = Vertex(
    ImageSource(digest=Digest.of(b"m"), reference=Reference.parse("base"), platform=LINUX_AMD64),
    meta=at(1),
)
LOCAL = Vertex(LocalSource(name="context"))


def test_steps_are_numbered_after_their_inputs_and_named_by_vertex() -> None:
    copy = Copy(input=1, source="/a", dest="/b", owner=Owner(user="bob", group="7"))
    made = Vertex(FileOp(actions=(Mkfile(path="/x", data=b"hi"), copy)), (IMAGE, LOCAL), meta=at(2))
    found = describe(made, {NAME: b"text"})
    assert [step["id"] for step in found.steps] == ["step0", "step1", "step2", "step3"]
    assert found.steps[2]["inputs"] == ["step0:0", "step1:0"]
    assert found.outputs == {
        IMAGE.digest: "step0:0",
        LOCAL.digest: "step1:0",
        made.digest: "step2:0",
    }
    assert sorted(found.digests.values()) == ["step0", "step1", "step2", "step3"]
    first, second = found.steps[2]["op"]["Op"]["file"]["actions"]
    assert first["Action"]["mkfile"]["data"] == "aGk="
    assert (first["input"], first["secondaryInput"], first["output"]) == (0, -1, -1)
    assert second["Action"]["copy"]["owner"] == {
        "user": {"User": {"byName": {"name": "bob"}}},
        "group": {"User": {"byId": 7}},
    }
    assert found.steps[3]["op"] == {"Op": {}}
    lines = {
        step: where["locations"][0]["ranges"][0]["start"]["line"]
        for step, where in found.locations.items()
    }
    assert lines == {"step0": 1, "step2": 2}


def test_the_file_is_there_with_where_it_was_read_from() -> None:
    origin, queries = local_vertex("dockerfile", NAME)
    found = describe(IMAGE, {NAME: b"text"}, origin, queries)
    (info,) = found.infos
    assert (info["filename"], info["language"], info["data"]) == (NAME, NAME, "dGV4dA==")
    source = info["llbDefinition"][0]["op"]["Op"]["source"]
    assert source["identifier"] == "local://dockerfile"
    assert json.loads(source["attrs"]["local.followpaths"]) == [NAME]


def test_credentials_are_kept_out_and_uploads_have_a_name() -> None:
    git = Vertex(GitSource(remote="https://me:pass@h.example/r.git", ref="v1"))
    file = Vertex(HttpSource(url="https://tok@h.example/f"))
    upload = Vertex(HttpSource(url="upload:abc"))
    copies = tuple(Copy(input=number, source="/", dest="/") for number in (1, 2, 3))
    made = Vertex(FileOp(actions=copies), (Vertex(ScratchSource()), git, file, upload))
    text = json.dumps(describe(made, {}).steps)
    assert "pass@" not in text and "tok@" not in text
    assert "http://buildkit-session/abc" in text


def test_the_empty_tree_has_no_steps() -> None:
    found = describe(Vertex(ScratchSource()), {NAME: b"FROM scratch"})
    assert (found.steps, found.infos, found.outputs) == ([], [], {})


def test_steps_stand_after_the_first_of_their_inputs_and_the_inputs_of_that() -> None:
    def on(name: str, *inputs: Vertex) -> Vertex:
        return Vertex(FileOp(actions=(Mkfile(path=name, data=b""),)), inputs)

    first = on("/1", IMAGE)
    second = on("/2", first)
    copies = (Copy(input=1, source="/", dest="/"), Copy(input=2, source="/", dest="/"))
    top = Vertex(FileOp(actions=copies), (second, LOCAL, first))
    found = describe(top, {})
    order = [found.outputs[one.digest] for one in (IMAGE, first, second, LOCAL, top)]
    assert order == ["step0:0", "step1:0", "step2:0", "step3:0", "step4:0"]
    assert found.steps[4]["inputs"] == ["step2:0", "step3:0", "step1:0"]
    assert "inputs" not in found.steps[0] and found.steps[5]["inputs"] == ["step4:0"]
    assert [info["data"] for info in found.infos] == [""] and list(found.locations) == ["step0"]


def test_a_file_without_an_origin_says_only_what_is_in_it() -> None:
    (info,) = describe(IMAGE, {NAME: b"text"}).infos
    assert sorted(info) == ["data", "filename", "language"]
    origin, queries = local_vertex("dockerfile", NAME, NAME + ".dockerignore")
    (info,) = describe(IMAGE, {NAME: b"text"}, origin, queries).infos
    assert sorted(info["digestMapping"].values()) == ["step0", "step1"]
    assert describe(LOCAL, {}, origin, queries).infos == []
    query = queries["dockerfile"]
    assert (query.dir_name, query.shared_key) == ("dockerfile", "dockerfile")
    assert query.follow == (NAME, NAME + ".dockerignore")


def test_sessions_are_nobodys_business() -> None:
    query = LocalQuery(dir_name="c", session="secret-session", shared_key="k")
    (source, _) = describe(LOCAL, {}, locals={"context": query}).steps
    assert source["op"]["Op"]["source"] == {
        "identifier": "local://c",
        "attrs": {"local.sharedkeyhint": "k"},
    }


def test_a_layout_is_called_by_its_path() -> None:
    digest = Digest.of(b"l")
    layout = Vertex(OciLayoutSource(path="/l", digest=digest, platform=LINUX_AMD64))
    (source, _) = describe(layout, {}).steps
    assert source["op"]["Op"]["source"]["identifier"] == f"oci-layout:///l@{digest}"


def test_proxies_are_shown_without_their_passwords() -> None:
    step = ExecOp(
        args=("x",), env=(), cwd="/", mounts=(Mount(target="/", input=0, output=True),),
        platform=LINUX_AMD64, proxy_env=("http_proxy=http://me:word@p",),
    )  # fmt: skip
    made = describe(Vertex(step, (IMAGE,)), {}).steps[1]["op"]
    assert (
        "word" not in json.dumps(made)
        and "@p" in made["Op"]["exec"]["meta"]["proxy_env"]["http_proxy"]
    )
    assert made["platform"] == {"Architecture": "amd64", "OS": "linux"}
    assert made["Op"]["exec"]["meta"]["removeMountStubsRecursive"] is True
    (mount,) = made["Op"]["exec"]["mounts"]
    assert mount == {"dest": "/"}


def test_an_action_says_its_trees_though_they_are_nought() -> None:
    remove = Vertex(FileOp(actions=(Mkfile(path="/x", data=b""),)), (IMAGE,))
    (action,) = describe(remove, {}).steps[1]["op"]["Op"]["file"]["actions"]
    assert (action["input"], action["secondaryInput"], action["output"]) == (0, -1, 0)
    assert sorted(action) == ["Action", "input", "output", "secondaryInput"]
