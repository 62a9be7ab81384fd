"""One ``--output``: how it is read, what it means, and what means nothing to its type [OUT]."""

from __future__ import annotations

import pytest

from pybuild.exporter.compressionlevel import compression_level
from pybuild.exporter.output import Output, check_tagless, output_names, outputs_of, parse_output
from pybuild.model.errors import UsageError
from pybuild.model.reference import Reference


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("-", Output(type="tar", dest="-")),
        ("dir", Output(type="local", dest="dir")),
        ("type=local,dest=d", Output(type="local", dest="d")),
        ("type=tar", Output(type="tar", dest="-")),
        ("type=tar,dest=t", Output(type="tar", dest="t")),
        ("type=oci", Output(type="oci", dest="-")),
        ("type=docker", Output(type="docker")),
        ("type=image", Output(type="image")),
        ("type=cacheonly", Output(type="cacheonly")),
        ("TYPE=image, Push =true", Output(type="image", attrs={"push": "true"})),
        (
            'type=image,"name=a/b,c/d",annotation.Key=V',
            Output(type="image", attrs={"name": "a/b,c/d", "annotation.Key": "V"}),
        ),
    ],
)
def test_an_output_is_read(text: str, output: Output) -> None:
    assert parse_output(text) == output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'invalid output "": expected type=…,dest=… or a directory'),
        ("type=image,push", 'field "push" must be a key=value pair'),
        ("dest=x", 'unknown output type "": one of image, registry, oci'),
        ("type=imgae", 'unknown output type "imgae" (did you mean image?)'),
        ("type=local", 'output "type=local": dest is required for local'),
        ("type=local,dest=x,push=true", 'output type=local has no attribute "push"'),
        ("type=tar,annotation.a=b", 'output type=tar has no attribute "annotation.a"'),
        ("type=cacheonly,push=true", 'output type=cacheonly has no attribute "push"'),
        ("type=image,prefer-nondist-layers=true", "prefer-nondist-layers=true is not supported"),
        ("type=image,dest=x", "output type=image has no dest: x"),
        ("type=registry,dest=x", "output type=registry has no dest: x"),
        ("type=cacheonly,dest=x", "output type=cacheonly has no dest: x"),
        ("type=docker,dest=x,context=c", "output has a dest, x, and a context: one of them"),
        ("type=local,dest=x,mode=move", 'output mode "move": expected copy or delete'),
        ("type=image,push=yes", 'output attribute push="yes": expected true or false'),
        ("type=image,source-date-epoch=soon", "invalid source-date-epoch: soon"),
        ("type=image,compression=lzma", "one of estargz, gzip, uncompressed, zstd"),
        ("type=image,compression-level=10", "expected 0 to 9"),
        ("type=image,annotation.a=b,oci-mediatypes=false", "annotations need OCI media types"),
        ("type=docker,compression=estargz", "compression estargz needs oci-mediatypes=true"),
        ("type=image,rewrite-timestamp=true,unpack=true", 'conflicts with "unpack"'),
    ],
)
def test_an_output_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_output(text)
    assert message in caught.value.message


def test_an_unknown_attribute_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        Output(type="tar", attrs={"mode": "copy"})
    assert caught.value.hints == ("it has: attestation-prefix, source-date-epoch",)
    with pytest.raises(UsageError) as caught:
        Output(type="cacheonly", attrs={"mode": "copy"})
    assert caught.value.hints == ()


def test_the_default_of_what_we_do_not_have_is_no_harm() -> None:
    for value in ("false", "False", "0"):
        assert parse_output(f"type=image,prefer-nondist-layers={value}").is_image
    parse_output("type=image,rewrite-timestamp=true,unpack=false")
    parse_output("type=image,rewrite-timestamp=false,unpack=true")
    parse_output("type=docker,tar=true")
    parse_output("type=docker,compression=zstd,oci-mediatypes=true")
    parse_output("type=docker,compression=uncompressed")


@pytest.mark.parametrize(
    ("kind", "is_image", "is_kept", "pushes", "oci_types", "title"),
    [
        ("image", True, True, False, True, "exporting to image"),
        ("registry", True, True, True, True, "exporting to image"),
        ("oci", True, False, False, True, "exporting to oci image format"),
        ("docker", True, False, False, False, "exporting to docker image format"),
        ("local", False, False, False, True, "exporting to client directory"),
        ("tar", False, False, False, True, "exporting to client tarball"),
    ],
)
def test_what_a_type_means(
    kind: str, is_image: bool, is_kept: bool, pushes: bool, oci_types: bool, title: str
) -> None:
    output = Output(type=kind)
    assert (output.is_image, output.is_kept, output.pushes) == (is_image, is_kept, pushes)
    assert (output.oci_types, output.title) == (oci_types, title)
    assert (output.compression, output.level(), output.replaces) == ("gzip", None, False)


def test_what_attributes_mean() -> None:
    assert parse_output("type=image,push=true").pushes
    assert not parse_output("type=image,push=0").pushes
    assert parse_output("type=image,compression=zstd").compression == "zstd"
    assert parse_output("type=docker,annotation.a=b").oci_types
    assert not parse_output("type=image,oci-mediatypes=false").oci_types
    assert parse_output("type=local,dest=x,mode=delete").replaces
    assert not parse_output("type=local,dest=x,mode=copy").replaces


@pytest.mark.parametrize(
    ("value", "flag"),
    [("true", True), ("1", True), ("TRUE", True), ("false", False), ("0", False), ("False", False)],
)
def test_flags(value: str, flag: bool) -> None:
    output = Output(type="image", attrs={"store": value})
    assert output.flag("store", True) is flag
    assert output.flag("store", False) is flag
    assert output.flag("push") is False
    assert output.flag("push", True) is True


def test_an_output_may_have_a_time_of_its_own_or_none() -> None:
    assert Output(type="image").epoch(5) == 5
    assert Output(type="image").epoch(None) is None
    assert Output(type="image", attrs={"source-date-epoch": "7"}).epoch(5) == 7
    assert Output(type="image", attrs={"source-date-epoch": "0"}).epoch(5) == 0
    assert Output(type="image", attrs={"source-date-epoch": ""}).epoch(5) is None


@pytest.mark.parametrize(
    ("compression", "text", "level"),
    [
        ("gzip", "0", 0),
        ("gzip", "9", 9),
        ("estargz", "9", 9),
        ("zstd", "22", 22),
        ("uncompressed", "100", 100),
        ("zstd", "", None),
    ],
)
def test_levels_that_there_are(compression: str, text: str, level: int | None) -> None:
    output = Output(type="image", attrs={"compression": compression, "compression-level": text})
    assert output.level() == level


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"compression-level": "10"}, "0 to 9"),
        ({"compression": "gzip", "compression-level": "10"}, "0 to 9"),
        ({"compression": "estargz", "compression-level": "10"}, "0 to 9"),
        ({"compression": "zstd", "compression-level": "23"}, "0 to 22"),
        ({"compression": "zstd", "compression-level": "-1"}, "0 to 22"),
        ({"compression": "uncompressed", "compression-level": "fast"}, "a number"),
        ({"compression": "uncompressed", "compression-level": "1000000000"}, "a number"),
    ],
)
def test_levels_that_there_are_not(attrs: dict[str, str], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        compression_level(attrs, "cache")
    level = attrs["compression-level"]
    message = f'cache attribute compression-level="{level}": expected {expected}'
    assert caught.value.message == message


def test_a_level_of_nine_digits_is_one() -> None:
    attrs = {"compression": "uncompressed", "compression-level": "999999999"}
    assert compression_level(attrs, "cache") == 999_999_999
    assert compression_level({}, "cache") is None


def _names(*texts: str) -> list[Reference]:
    return [Reference.parse(text) for text in texts]


def test_an_image_has_the_names_of_the_build_and_its_own_each_once() -> None:
    output = Output(type="image", attrs={"name": "b:1,,a:1,c:2"})
    assert output_names(_names("a:1"), output) == _names("a:1", "b:1", "c:2")
    assert output_names([], Output(type="image")) == []
    tags = _names("a:1")
    output_names(tags, output)
    assert tags == _names("a:1")


def test_an_image_cannot_have_any_name() -> None:
    digest = "sha256:" + "0" * 64
    for tags, name in ((_names(f"a@{digest}"), ""), ([], f"a@{digest}")):
        with pytest.raises(UsageError, match="an image cannot be named by a digest$"):
            output_names(tags, Output(type="image", attrs={"name": name}))
    with pytest.raises(UsageError, match="invalid reference format"):
        output_names([], Output(type="image", attrs={"name": "A B"}))


def test_what_goes_by_digest_has_no_tag() -> None:
    check_tagless(_names("a", "b:latest"))
    with pytest.raises(UsageError, match="^can't push tagged ref .*b:1 by digest$"):
        check_tagless(_names("a", "b:1"))


@pytest.mark.parametrize(
    ("spec", "is_oci"),
    [
        ("type=image", True),
        ("type=image,compatibility-version=30", True),
        ("type=image,compatibility-version=20", False),
        ("type=registry,compatibility-version=20", False),
        ("type=image,compatibility-version=20,oci-mediatypes=true", True),
        ("type=image,compatibility-version=20,compression=zstd", True),
        ("type=image,compatibility-version=20,annotation.a=b", True),
        ("type=oci,compatibility-version=20", True),
        ("type=docker,compatibility-version=20", False),
    ],
)
def test_images_have_the_media_types_of_a_version_of_buildkit(spec: str, is_oci: bool) -> None:
    assert parse_output(spec).oci_types is is_oci


@pytest.mark.parametrize("version", ["10", "31", "x", ""])
def test_versions_of_images_that_are_not_made_are_refused(version: str) -> None:
    with pytest.raises(UsageError, match=f"unsupported compatibility-version {version}"):
        parse_output(f"type=image,compatibility-version={version}")


def test_annotations_of_the_command_line_are_for_each_image_and_for_nothing_else() -> None:
    image, tree = Output(type="image"), Output(type="local", dest="d")
    outputs, _ = outputs_of([image, tree], (), push=False, load=False, annotations=["a=b"])
    assert [one.attrs for one in outputs] == [{"annotation-manifest.a": "b"}, {}]
    outputs, _ = outputs_of([], (), push=False, load=False, annotations=["a=b"])
    assert [(one.type, one.attrs) for one in outputs] == [("image", {"annotation-manifest.a": "b"})]
    with pytest.raises(UsageError, match="--annotation needs an output that is an image"):
        outputs_of([tree], (), push=False, load=False, annotations=["a=b"])
