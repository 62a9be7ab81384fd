"""Outputs as exporters of a server, and what takes them here [OUT, 7.3]."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from pybuild.builds.request import BuildRequest
from pybuild.client.exports import descriptor_of, finish, image_id_of, metadata_of, plan
from pybuild.client.filesend import ToDirectory, ToStream
from pybuild.exporter.output import Output
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UsageError, UserError
from pybuild.model.reference import Reference

IMAGE = Digest.of(b"image")


def asked(*outputs: Output, tags: tuple[str, ...] = ()) -> BuildRequest:
    return BuildRequest(
        context=".", outputs=outputs, tags=tuple(Reference.parse(text) for text in tags)
    )


def response(digest: str = IMAGE) -> dict[str, str]:
    document = {"mediaType": "m", "digest": digest, "size": 3}
    return {"containerimage.descriptor": base64.b64encode(json.dumps(document).encode()).decode()}


def test_every_output_has_its_exporter(tmp_path: Path) -> None:
    exports = plan(
        asked(
            Output(type="cacheonly"),
            Output(type="image", attrs={"name": "b,c", "compression": "zstd"}),
            Output(type="registry"),
            Output(type="local", dest=str(tmp_path / "d"), attrs={"platform-split": "true"}),
            Output(type="tar", dest=str(tmp_path / "t")),
            Output(type="docker", dest=str(tmp_path / "i")),
            tags=("a:1", "b"),
        )
    )
    names = "docker.io/library/a:1,docker.io/library/b:latest"
    kinds = [(one.Type, dict(one.Attrs)) for one in exports.exporters]
    assert kinds == [
        ("image", {"name": f"{names},docker.io/library/c:latest", "compression": "zstd"}),
        ("image", {"name": names, "push": "true"}),
        ("local", {"platform-split": "true"}),
        ("tar", {}),
        ("docker", {"name": names}),
    ]
    assert {n: type(target) for n, target in exports.targets.items()} == {
        2: ToDirectory,
        3: ToStream,
        4: ToStream,
    }


def test_without_an_output_the_server_keeps_the_image() -> None:
    (exporter,) = plan(asked(tags=("a",))).exporters
    assert (exporter.Type, dict(exporter.Attrs)) == (
        "image",
        {"name": "docker.io/library/a:latest"},
    )


def test_what_cannot_be_written_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    layout = {"tar": "false"}
    cases: list[tuple[Output, type[Exception]]] = [
        (Output(type="tar", dest=str(tmp_path)), UsageError),
        (Output(type="oci", dest=str(tmp_path / "no/such")), UsageError),
        (Output(type="oci", dest=str(tmp_path / "full"), attrs=layout), UserError),
        (Output(type="image", attrs={"name": f"a@{IMAGE}"}), UsageError),
        (Output(type="image", attrs={"name": "A B"}), UsageError),
    ]
    for output, kind in cases:
        with pytest.raises(kind):
            plan(asked(output))
    two = [Output(type="oci", dest=str(tmp_path / name), attrs=layout) for name in "ab"]
    with pytest.raises(UsageError, match="only one"):
        plan(asked(*two))


def test_an_archive_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = plan(asked(Output(type="tar", dest=str(tmp_path / "t")))).targets[0]
    assert isinstance(target, ToStream)
    for ends_well in (False, True):
        sink = target.open({})
        assert sink is not None
        sink.write(b"data")
        assert not (tmp_path / "t").exists()
        if ends_well:
            sink.close()
        else:
            sink.abort()
            assert list(tmp_path.iterdir()) == []
    assert (tmp_path / "t").read_bytes() == b"data"
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_a_layout_whose_blobs_did_not_come_is_an_error(tmp_path: Path) -> None:
    output = Output(type="oci", dest=str(tmp_path / "l"), attrs={"tar": "false"})
    for said in ({}, response()):
        with pytest.raises(EnvironmentFault):
            finish(plan(asked(output)), said)
        assert not (tmp_path / "l/index.json").exists()


def test_what_a_server_says_of_an_image_is_checked() -> None:
    made = descriptor_of(response())
    assert made is not None and made.digest == IMAGE
    assert image_id_of(response(), made) == IMAGE
    assert image_id_of({}, None) is None
    for text in ("%", base64.b64encode(b"[]").decode(), base64.b64encode(b"{}").decode()):
        with pytest.raises(EnvironmentFault):
            descriptor_of({"containerimage.descriptor": text})
    with pytest.raises(EnvironmentFault):
        image_id_of({"containerimage.config.digest": "x"}, made)
    told = metadata_of({**response(), "image.name": "a"}, IMAGE)
    assert told["containerimage.descriptor"]["digest"] == IMAGE and told["image.name"] == "a"
