"""Manifests and indexes, ours and strangers' [IMG-1..7, IMG-19..22]."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pybuild.image.manifest import (
    Index,
    Manifest,
    build_index,
    build_manifest,
    choose,
    parse_config,
    parse_index,
    parse_manifest,
    resolve,
)
from pybuild.model.descriptor import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.model.platform import Platform

D = Digest.of(b"x")
CONFIG = Descriptor(OCI_CONFIG, D, 1)
LAYER = Descriptor(OCI_LAYER_GZIP, D, 2)


def test_bytes_are_fixed() -> None:
    assert build_manifest(CONFIG, [LAYER], annotations={"b": "2", "a": "1"}).decode() == (
        f'{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}",'
        f'"config":{{"mediaType":"{OCI_CONFIG}","digest":"{D}","size":1}},'
        f'"layers":[{{"mediaType":"{OCI_LAYER_GZIP}","digest":"{D}","size":2}}],'
        '"annotations":{"a":"1","b":"2"}}'
    )


def test_docker_manifest_retypes_config_and_layers() -> None:
    found = parse_manifest(build_manifest(CONFIG, [LAYER], DOCKER_MANIFEST), DOCKER_MANIFEST)
    assert isinstance(found, Manifest)
    assert found.config.media_type == "application/vnd.docker.container.image.v1+json"
    docker_layer = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    assert [layer.media_type for layer in found.layers] == [docker_layer]


def test_zstd_layers_have_a_docker_type() -> None:
    """[OUT-10]"""
    document = json.loads(
        build_manifest(CONFIG, [Descriptor(OCI_LAYER_ZSTD, D, 1)], DOCKER_MANIFEST)
    )
    (layer,) = document["layers"]
    assert layer["mediaType"] == "application/vnd.docker.image.rootfs.diff.tar.zstd"


def test_what_docker_types_cannot_say_is_refused() -> None:
    """[OUT-11, OUT-14]"""
    with pytest.raises(ValueError, match="annotations and subjects need OCI media types"):
        build_manifest(CONFIG, [], DOCKER_MANIFEST, annotations={"a": "b"})
    with pytest.raises(ValueError, match="annotations and subjects need OCI media types"):
        build_manifest(CONFIG, [], DOCKER_MANIFEST, artifact_type="a/b")
    with pytest.raises(ValueError, match="annotations and subjects need OCI media types"):
        build_index([], DOCKER_INDEX, annotations={"a": "b"})
    with pytest.raises(ValueError, match="media type text/plain: expected one of"):
        build_index([], "text/plain")


def test_round_trip_with_subject() -> None:
    data = build_manifest(CONFIG, [LAYER], subject=LAYER, artifact_type="a/b")
    found = parse_manifest(data)
    assert isinstance(found, Manifest)
    assert (found.subject, found.artifact_type) == (LAYER, "a/b")


@pytest.mark.parametrize("version", [None, 0])
def test_no_version_is_the_second(version: int | None) -> None:
    """As Go's programs read it, which write it so at times."""
    assert isinstance(parse_manifest(body(schemaVersion=version)), Manifest)


def body(**changes: Any) -> bytes:
    made = json.loads(build_manifest(CONFIG, [LAYER]))
    made.update(changes)
    return json.dumps({k: v for k, v in made.items() if v is not None}).encode()


@pytest.mark.parametrize(
    ("data", "said", "message"),
    [
        (body(schemaVersion=1), "", "schema version 1 is not supported"),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema version 1"),
        (body(schemaVersion=3), "", "schema version 3, expected 2"),
        (body(), OCI_INDEX, "was announced as"),
        (body(manifests=[]), "", "either layers or manifests"),
        (body(layers=None, manifests=[], mediaType=None), "", "either layers or manifests"),
        (body(layers=None), "", "either layers or manifests"),
        (body(mediaType="text/html"), "", "unsupported manifest type 'text/html'"),
        (body(mediaType=OCI_INDEX), "", "unsupported manifest type"),
        (body(mediaType=7), "", "media type that is no text"),
        (body(layers={}), "", "layers is not a list"),
        (body(layers=[{}] * 5000), "", "5000 layers, more than 4096"),
        (body(layers=[{"mediaType": "a", "digest": "sha256:x", "size": 1}]), "", "invalid digest"),
        (body(layers=[{"mediaType": "a", "digest": D, "size": -1}]), "", "no valid size"),
        (body(config=None), "", "descriptor is not an object"),
        (body(annotations=[1]), "", "broken manifest"),
        (b"[" * 100_000, "", "not valid JSON"),
        (b"[]", "", "not a JSON object"),
        (b"\xff", "", "not valid JSON"),
        (b" " * (4 << 20) + b"{}", "", "more than 4194304"),
    ],
)
def test_broken_manifests_are_refused(data: bytes, said: str, message: str) -> None:
    with pytest.raises(EnvironmentFault, match=message):
        parse_manifest(data, said)


def entry(platform: str | None, name: str = "", media_type: str = OCI_MANIFEST) -> Descriptor:
    digest = Digest.of((name or str(platform)).encode())
    parts = platform.split("/") if platform else []
    return Descriptor(media_type, digest, 1, platform=Platform.make(*parts) if parts else None)


def chosen(wanted: str, *entries: Descriptor) -> Descriptor | None:
    return choose(Index(OCI_INDEX, entries), Platform.parse(wanted))


def test_best_variant_wins_then_the_first() -> None:
    """[IMG-19, IMG-20]"""
    v6, v7, unknown = entry("linux/arm/v6"), entry("linux/arm/v7"), entry("unknown/unknown")
    assert chosen("linux/arm/v7", unknown, v6, v7) == v7
    assert chosen("linux/arm/v7", v6) == v6
    assert chosen("linux/arm/v6", v7) is None
    one, two = entry("linux/amd64", "1"), entry("linux/amd64", "2")
    assert chosen("linux/amd64", one, two) == one
    assert chosen("linux/amd64", unknown) is None


def test_entries_without_platform_are_inspected() -> None:
    found = choose(
        Index(OCI_INDEX, (entry(None, "a"),)),
        Platform.parse("linux/arm64"),
        lambda _: Platform.make("linux", "arm64"),
    )
    assert found == entry(None, "a")


def test_resolve_walks_nested_indexes_and_stops() -> None:
    blobs: dict[str, bytes] = {}

    def put(data: bytes, media_type: str, platform: str | None = None) -> Descriptor:
        parts = platform.split("/") if platform else []
        blobs[Digest.of(data)] = data
        where = Platform.make(*parts) if parts else None
        return Descriptor(media_type, Digest.of(data), len(data), platform=where)

    config = put(b'{"os":"linux","architecture":"amd64"}', OCI_CONFIG)
    image = put(build_manifest(config, []), OCI_MANIFEST)
    top = image
    for _ in range(3):
        top = put(build_index([top]), OCI_INDEX)
    wanted = Platform.parse("linux/amd64")
    found, manifest = resolve(top, lambda d: blobs[d.digest], wanted)
    assert (found, manifest.config) == (image, config)
    with pytest.raises(EnvironmentFault, match="no image for linux/arm64"):
        resolve(top, lambda d: blobs[d.digest], Platform.parse("linux/arm64"))
    top = put(build_index([top]), OCI_INDEX)
    with pytest.raises(EnvironmentFault, match="nested more than 4 deep"):
        resolve(top, lambda d: blobs[d.digest], wanted)


def test_parse_index_wants_an_index() -> None:
    assert parse_index(build_index([CONFIG])).manifests == (CONFIG,)
    with pytest.raises(EnvironmentFault, match="expected an index"):
        parse_index(build_manifest(CONFIG, []))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"config": []}, "a broken config"),
        ({"rootfs": 7}, "a broken rootfs"),
        ({"rootfs": {"diff_ids": [1]}}, "broken diff_ids"),
        ({"rootfs": {"diff_ids": ["sha256:../../x"]}}, "broken diff_ids: invalid digest"),
        ({"config": {"WorkingDir": "a\0b"}}, "a broken config.WorkingDir"),
        ({"history": {}}, "a broken history"),
        ({"os": ["linux"]}, "a broken os"),
        ({"config": {"Env": "A=1"}}, "broken Env"),
        ({"config": {"Cmd": [["x"]]}}, "broken Cmd"),
        ({"config": {"Labels": ["a"]}}, r"a broken config\.Labels"),
        ({"config": {"User": 0}}, r"a broken config\.User"),
    ],
)
def test_broken_configs_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvironmentFault, match=message):
        parse_config(json.dumps(config).encode())


def test_nulls_of_go_are_taken() -> None:
    fields = '"Env":null,"Labels":null,"User":"","Cmd":null'
    body = parse_config(f'{{"config":{{{fields}}},"history":null,"rootfs":{{}}}}'.encode())
    assert body["history"] is None
