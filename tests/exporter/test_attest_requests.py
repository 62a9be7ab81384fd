"""Requests in provenance, the options that ask for it, and what sources of a build add up to [ATT-1..3]."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pybuild.exporter.attest.frontendrequest import (
    FrontendRequest,
    filter_args,
    scrubbed,
    take_vcs,
    with_root,
)
from pybuild.exporter.attest.machine import read_machine
from pybuild.exporter.attest.options import (
    V1,
    AttestOptions,
    Provenance,
    Sbom,
    attest_options,
    from_flags,
    options_of,
)
from pybuild.exporter.attest.sources import UsedImage, UsedSources
from pybuild.exporter.attest.vcs import version_control
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference

COMMIT = "c0" * 20


def image(name: str, text: bytes = b"m", *, local: bool = False) -> UsedImage:
    return UsedImage(Reference.parse(name), LINUX_AMD64, Digest.of(text), local)


# --- sources --------------------------------------------------------------------------------------


def test_sources_add_up() -> None:
    one = UsedSources(
        images=[image("a"), image("b")],
        git={"g": "1"},
        http={"h": "1"},
        locals={"context"},
        secrets={"both": True, "mine": True},
        ssh={"s": False},
    )
    other = UsedSources(
        images=[image("b"), image("c")],
        git={"g2": "2"},
        http={"h2": "2"},
        locals={"dockerfile"},
        secrets={"both": False, "yours": False, "soft": True},
        ssh={"s": True},
    )
    one.merge(other)
    assert [i.reference.familiar for i in one.images] == ["a:latest", "b:latest", "c:latest"]
    assert (one.git, one.http) == ({"g": "1", "g2": "2"}, {"h": "1", "h2": "2"})
    assert one.locals == {"context", "dockerfile"}
    assert one.secrets == {"both": False, "mine": True, "yours": False, "soft": True}
    assert one.ssh == {"s": False}
    assert (one.network, one.incomplete) == (False, False)
    one.merge(UsedSources(network=True))
    one.merge(UsedSources(incomplete=True))
    one.merge(UsedSources())
    assert (one.network, one.incomplete) == (True, True)


def test_sources_are_complete_without_directories_and_uploads() -> None:
    assert UsedSources().complete
    assert not UsedSources(locals={"context"}).complete
    assert not UsedSources(incomplete=True).complete


def test_an_image_by_digest_is_left_out_where_it_is_there_by_name() -> None:
    digest = Digest.of(b"m")
    named, pinned = image("a:1"), image(f"a:1@{digest}")
    other = image(f"b:1@{digest}")
    uris = [m["uri"] for m in UsedSources(images=[pinned, named, other]).materials()]
    assert uris == [
        "pkg:docker/a@1?platform=linux%2Famd64",
        f"pkg:docker/b@1?digest={digest}&platform=linux%2Famd64",
    ]
    [layout] = UsedSources(images=[image("a:1", local=True)]).materials()
    assert layout["uri"].startswith("pkg:oci/a")


def test_the_digest_of_a_repository_or_file_is_found_by_its_url() -> None:
    sources = UsedSources(
        images=[image("a")], git={"g": COMMIT, "long": "c0" * 32}, http={"h": "5a" * 32}
    )
    assert sources.find("g") == {"sha1": COMMIT}
    assert sources.find("long") == {"sha256": "c0" * 32}
    assert sources.find("h") == {"sha256": "5a" * 32}
    assert sources.find("none") is None
    [uri] = [m["uri"] for m in sources.materials() if m["uri"].startswith("pkg:")]
    assert sources.find(uri) is None


def test_parameters_of_a_request() -> None:
    assert UsedSources().parameters() == {}
    sources = UsedSources(
        locals={"b", "a"}, secrets={"z": True, "y": False}, ssh={"default": False}
    )
    assert sources.parameters() == {
        "secrets": [{"id": "y"}, {"id": "z", "optional": True}],
        "ssh": [{"id": "default"}],
        "locals": [{"name": "a"}, {"name": "b"}],
    }


# --- requests -------------------------------------------------------------------------------------


def test_an_empty_request_is_false() -> None:
    assert not FrontendRequest()
    assert FrontendRequest(frontend="f")
    assert FrontendRequest(args={"a": "b"})
    assert FrontendRequest(inputs={"a": {}})


def test_credentials_are_masked_in_contexts_alone() -> None:
    url, masked = "https://u:p@h.example/x", "https://xxxxx:xxxxx@h.example/x"
    given = {"context": url, "context:a": url, "vcs:source": url, "other": url, "build-arg:U": url}
    assert filter_args(given) == {
        "build-arg:U": url,
        "context": masked,
        "context:a": masked,
        "other": url,
        "vcs:source": masked,
    }
    assert filter_args({"contextkey": "own", "own": url, "context": url}) == {
        "context": url,
        "contextkey": "own",
        "own": masked,
    }
    for name in ("cgroup-parent", "image-resolve-mode", "platform", "cache-imports", "attest:x"):
        assert filter_args({name: "x"}) == {}


@pytest.mark.parametrize(
    ("context", "git", "config"),
    [
        ("", "", {}),
        ("https://h.example/x.tar", "", {"uri": "https://h.example/x.tar"}),
        (
            "https://h.example/r.git",
            "https://h.example/r.git",
            {"uri": "https://h.example/r.git", "digest": {"sha1": COMMIT}},
        ),
        (
            "https://h.example/r.git#:sub",
            "https://h.example/r.git",
            {"uri": "https://h.example/r.git#:sub", "digest": {"sha1": COMMIT}},
        ),
        (
            "https://h.example/r.git#v1:sub",
            "https://h.example/r.git#v1",
            {"uri": "https://h.example/r.git#v1:sub", "digest": {"sha1": COMMIT}},
        ),
        ("https://h.example/r.git#v2", "https://h.example/r.git#v1", {}),
        ("https://h.example/r.git?tag=", "", {"uri": "https://h.example/r.git?tag="}),
    ],
)
def test_where_the_dockerfile_comes_from(context: str, git: str, config: dict[str, Any]) -> None:
    request = FrontendRequest(args={"context": context, "a": "b"})
    document = request.document(UsedSources(git={git: COMMIT}))
    if git.endswith("#v1") and context.endswith("#v2"):
        config = {"uri": context}
    assert document == {"configSource": config, "request": {"args": {"a": "b"}}}


def test_the_context_may_be_another_attribute() -> None:
    args = {"contextkey": "own", "own": "https://h.example/x", "filename": "D"}
    document = FrontendRequest(args=args).document(UsedSources())
    assert document["configSource"] == {"uri": "https://h.example/x", "path": "D"}
    args = {"input:context": "x", "context": "https://h.example/y"}
    document = FrontendRequest(args=args).document(UsedSources())
    assert document["configSource"] == {"uri": "x"}
    assert document["request"] == {"args": {"context": "https://h.example/y"}}


def test_inputs_of_a_request_are_sorted() -> None:
    inputs: dict[str, dict[str, Any]] = {"b": {"request": {}}, "a": {"request": {"frontend": "f"}}}
    document = FrontendRequest(frontend="g", inputs=inputs).document(UsedSources())
    assert document["request"] == {"frontend": "g", "inputs": inputs}
    assert list(document["request"]["inputs"]) == ["a", "b"]


def test_the_first_request_of_a_build_is_told_where_it_was_another() -> None:
    document: dict[str, Any] = {"configSource": {}, "request": {"frontend": "f"}}
    assert with_root(document, None) is document
    assert with_root(document, dict(document)) is document
    assert with_root(document, {"configSource": {"x": "y"}, "request": {}}) is document
    root = {"configSource": {}, "request": {"frontend": "g"}}
    assert with_root(document, root)["request"] == {"frontend": "f", "root": root}
    assert "root" not in document["request"]


def test_version_control_is_no_argument() -> None:
    args = {"vcs:source": "s", "vcs:revision": "", "a": "b"}
    document, vcs = take_vcs({"request": {"args": args, "frontend": "f"}})
    assert (document, vcs) == (
        {"request": {"args": {"a": "b"}, "frontend": "f"}},
        {"source": "s"},
    )
    document, vcs = take_vcs({"request": {"args": {"vcs:source": "s"}}})
    assert (document, vcs) == ({"request": {}}, {"source": "s"})


def _request(*args: str, **more: Any) -> dict[str, Any]:
    return {"request": {"args": dict.fromkeys(args, "x"), **more}}


@pytest.mark.parametrize(
    ("document", "kept", "is_changed"),
    [
        (_request("target"), _request("target"), False),
        ({"request": {}}, {"request": {}}, False),
        (_request("target", "build-arg:A"), _request("target"), True),
        (_request("target", "label:l"), _request("target"), True),
        (_request("build-arg:A"), {"request": {}}, True),
        (_request("a", secrets=[1], ssh=[2], locals=[3]), _request("a", locals=[3]), False),
        (_request("a", inputs={"i": _request("b")}), _request("a", inputs={"i": _request("b")}), False),
        (
            _request("a", inputs={"i": _request("b", "label:l"), "j": _request("c")}),
            _request("a", inputs={"i": _request("b"), "j": _request("c")}),
            True,
        ),
        (_request("a", root=_request("b", "label:l")), _request("a", root=_request("b")), True),
        (_request("a", root=_request("b")), _request("a", root=_request("b")), False),
    ],
)  # fmt: skip
def test_values_are_left_out_at_every_depth(
    document: dict[str, Any], kept: dict[str, Any], is_changed: bool
) -> None:
    before = json.dumps(document)
    assert scrubbed(document) == (kept, is_changed)
    assert json.dumps(document) == before


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1", "t", "true", "TRUE", "disabled=false", "disabled=0"])
def test_yes(text: str) -> None:
    assert options_of(text, "--sbom") == {}
    assert from_flags([], text, "") == AttestOptions(provenance=Provenance())


@pytest.mark.parametrize("text", ["0", "f", "false", "FALSE", "disabled", "disabled=1"])
def test_no(text: str) -> None:
    assert options_of(text, "--sbom") is None
    assert from_flags(["type=provenance", "type=sbom"], text, text) == AttestOptions()


def test_attestations_are_switched_off_one_by_one_and_the_last_word_counts() -> None:
    assert from_flags(["type=sbom", "disabled,type=sbom"], "", "") == AttestOptions()
    assert from_flags(["Type=sbom,disabled=true", "type=sbom"], "", "").sbom is not None
    both = from_flags(["type=sbom"], "mode=min", "")
    assert both.sbom is not None and both.provenance == Provenance(full=False)
    assert bool(both) and bool(AttestOptions(sbom=both.sbom)) and not AttestOptions()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mode", 'invalid --sbom "mode": expected key=value pairs'),
        ("=x", 'invalid --sbom "=x": expected key=value pairs'),
        ("disabled=maybe", 'failed to parse --sbom disabled flag "maybe"'),
    ],
)
def test_options_of_another_form_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        options_of(text, "--sbom")
    assert caught.value.message == message


def test_options_may_be_quoted_and_spaced() -> None:
    assert options_of(' a=1 ,"b=2,3",,c=', "--sbom") == {"a": "1", "b": "2,3", "c": ""}


def test_provenance_s_options() -> None:
    def provenance(**options: str) -> Provenance | None:
        return attest_options({"provenance": options}).provenance

    assert provenance(mode="full", version="", filename="") == Provenance(full=True, version=V1)
    assert provenance(mode="") == provenance(mode="max") == Provenance()
    assert provenance(**{"capture-usage": "true"}) == Provenance()
    assert provenance(**{"complete-materials": "t", "reproducible": "1"}) == Provenance(
        complete_materials=True, reproducible=True
    )
    for name in (".", "..", "a/b", "/"):
        with pytest.raises(UsageError, match="expected a name without directories"):
            provenance(filename=name)
    assert provenance(filename="...") == Provenance(filename="...")
    with pytest.raises(UsageError) as caught:
        provenance(mode="most")
    assert caught.value.hints == ("provenance has mode=min and mode=max",)
    with pytest.raises(UsageError) as caught:
        provenance(version="v2")
    assert caught.value.hints == ("it is v1 or v0.2",)


def test_the_scanner_is_the_usual_one_unless_it_is_named() -> None:
    usual = Reference.parse("docker/buildkit-syft-scanner:stable-1")
    for options in ({}, {"generator": ""}):
        assert attest_options({"sbom": options}).sbom == Sbom(generator=usual)


# --- the machine and its repositories -------------------------------------------------------------


def test_entries_about_the_machine_are_merged_in_the_order_of_their_names(tmp_path: Path) -> None:
    assert read_machine("") == {}
    assert read_machine(f"{tmp_path}/none") == {}
    (tmp_path / "b.json").write_text('{"x": 2, "y": 2}')
    (tmp_path / "a.json").write_text('{"x": 1, "z": 1}')
    (tmp_path / "c.txt").write_text("no JSON")
    (tmp_path / "d.json").mkdir()
    assert read_machine(str(tmp_path)) == {"x": 2, "y": 2, "z": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "failed to parse {path}: "),
        ("[]", "{path}: expected a JSON object"),
        ('{"platform": "x"}', 'key "platform" is builtin and not allowed to be modified'),
    ],
)
def test_entries_that_cannot_be_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_machine(str(tmp_path))
    assert caught.value.message.startswith(message.format(path=path))
    path.unlink()
    with pytest.raises(UsageError, match="^provenanceEnvDir .*: Not a directory$"):
        (tmp_path / "file").write_text("")
        read_machine(str(tmp_path / "file"))


def test_version_control_is_not_looked_for_where_nobody_wants_it(tmp_path: Path) -> None:
    for value in ("0", "f", "false", "FALSE"):
        environ = {"BUILDX_GIT_INFO": value}
        assert asyncio.run(version_control(str(tmp_path), environ)) == {}
    assert asyncio.run(version_control(str(tmp_path), {"PATH": ""})) == {}
