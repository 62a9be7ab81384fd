"""Definitions as provenance shows them [ATT-2]."""

from __future__ import annotations

import json

from pybuild.buildkit.llb.steps import describe, local_vertex
from pybuild.model.digest import Digest
from pybuild.model.ops import (
    Copy,
    FileOp,
    GitSource,
    HttpSource,
    ImageSource,
    LocalSource,
    Mkfile,
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
