"""``--cache-to``, ``--cache-from`` and ``--cache`` as people write them [CCH-1..3]."""

from __future__ import annotations

import os

import pytest

from pybuild.cacheoptions import parse_cache, parse_cache_from, parse_cache_to
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError

DIGEST = Digest.of(b"x")


def test_exports_as_the_reference_spells_them() -> None:
    to = parse_cache_to("type=registry,ref=ghcr.io/a/b:c,mode=max,compression=zstd,ignore-error")
    assert (to.type, str(to.ref), to.everything) == ("registry", "ghcr.io/a/b:c", True)
    assert (to.compression, to.ignore_error, to.image_manifest) == ("zstd", True, True)
    to = parse_cache_to("user/app")
    assert (str(to.ref), to.everything) == ("docker.io/user/app:latest", False)
    to = parse_cache_to("type=local,dest=x,oci-mediatypes=false")
    assert (to.dest, to.tag) == (os.path.abspath("x"), "latest")
    assert (to.image_manifest, to.oci_types) == (False, False)
    assert parse_cache_to("type=inline").type == "inline"


def test_imports_as_the_reference_spells_them() -> None:
    assert str(parse_cache_from("a/b:c")) == "docker.io/a/b:c"
    assert str(parse_cache_from(f"type=registry,ref=a/b@{DIGEST}")) == f"docker.io/a/b@{DIGEST}"
    found = parse_cache_from(f"type=local,src=/c,digest={DIGEST}")
    assert (found.src, found.digest, str(found)) == ("/c", DIGEST, f"/c@{DIGEST}")
    assert str(parse_cache_from("type=local,src=/c,tag=t")) == "/c:t"


@pytest.mark.parametrize("path", ["/c", "./c", "../c", "~/c", "file:///c"])
def test_one_flag_is_a_directory(path: str) -> None:
    to, found = parse_cache(path)
    expected = os.path.abspath(os.path.expanduser(path.removeprefix("file://")))
    assert (to.dest, found.src) == (expected, expected)
    assert to.everything and to.ignore_error and found.may_be_empty


@pytest.mark.parametrize("ref", ["ghcr.io/a/b:c", "registry://ghcr.io/a/b:c"])
def test_one_flag_is_a_reference(ref: str) -> None:
    to, found = parse_cache(ref)
    assert str(to.ref) == str(found.ref) == "ghcr.io/a/b:c"
    assert to.everything and to.ignore_error and found.may_be_empty


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("type=nonsense", 'unknown cache exporter: "nonsense"'),
        ("type=s3,bucket=x", "cache exporter s3 is not supported yet"),
        ("ref=a/b", "type is required"),
        ("type=registry", "requires ref"),
        ("type=registry,ref=A B", "invalid reference"),
        (f"type=registry,ref=a/b@{DIGEST}", "has no digest"),
        ("type=local", "requires dest"),
        ("type=local,dest=x,mode=most", 'invalid cache mode "most"'),
        ("type=local,dest=x,compression=lz4", 'cache compression "lz4"'),
        ("type=local,dest=x,compression-level=high", "a number"),
        ("type=local,dest=x,image-manifest=maybe", "expected true or false"),
        (
            "type=local,dest=x,image-manifest=true,oci-mediatypes=false",
            "OCI mediatypes are required",
        ),
        ("type=local,dest=x,oci-mediatypes=false,compression=zstd", "oci-mediatypes=true"),
        ("type=local,dest=x,color=red", 'has no attribute "color"'),
        ("type=local,dest=x,force-compression=true", "not supported yet"),
        ("type=local,dest=x,mode", "must be a key=value pair"),
    ],
)
def test_exports_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_cache_to(text)
    assert why in error.value.message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("type=inline", 'unknown cache importer: "inline"'),
        ("type=gha", "not supported yet"),
        ("type=local", "requires src"),
        ("type=local,src=/x,digest=y", "invalid digest"),
        ("type=registry,ref=a/b,mode=max", 'has no attribute "mode"'),
    ],
)
def test_imports_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_cache_from(text)
    assert why in error.value.message
