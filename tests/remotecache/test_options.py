"""``--cache-to``, ``--cache-from`` and ``--cache`` as people write them [CCH-1..3]."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError
from pybuild.remotecache.cacheurl import parse_cache
from pybuild.remotecache.options import parse_cache_from, parse_cache_to
from pybuild.remotecache.places.s3options import S3Place, with_credentials
from pybuild.remotecache.requested import caches_of

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
    to, (found,) = parse_cache(path)
    expected = os.path.abspath(os.path.expanduser(path.removeprefix("file://")))
    assert (to.dest, found.src) == (expected, expected)
    assert to.everything and to.ignore_error and found.may_be_empty


@pytest.mark.parametrize("ref", ["ghcr.io/a/b:c", "registry://ghcr.io/a/b:c"])
def test_one_flag_is_a_reference(ref: str) -> None:
    to, (found,) = parse_cache(ref)
    assert str(to.ref) == str(found.ref) == "ghcr.io/a/b:c"
    assert to.everything and to.ignore_error and found.may_be_empty


def test_a_directory_that_looks_like_a_reference_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reference it stays: what a name means does not depend on what lies about."""
    monkeypatch.chdir(tmp_path)
    for name in ("cache", "Caches"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    to, (found,) = parse_cache("cache")
    assert str(to.ref) == str(found.ref) == "docker.io/library/cache:latest"
    assert to.meant == found.meant == "./cache"
    assert parse_cache_to("cache").meant == "type=local,dest=cache"
    assert parse_cache_from("cache").meant == "type=local,src=cache"
    for text in ("file", "other", "cache:main", "registry://cache", "./cache"):
        assert parse_cache(text)[0].meant == ""
    for parse, meant in (
        (parse_cache, "./Caches"),
        (parse_cache_to, "type=local,dest=Caches"),
        (parse_cache_from, "type=local,src=Caches"),
    ):
        with pytest.raises(UsageError) as error:
            parse("Caches")
        assert error.value.message.endswith(f"(did you mean {meant}?)")


def test_one_flag_is_a_bucket() -> None:
    url = "s3://caches/team/app?region=eu-west-1&endpoint_url=http://h:9000&name=main&max-age=3d"
    to, (found,) = parse_cache(url)
    assert isinstance(to.service, S3Place)
    assert str(to.service) == str(found.service) == "s3://caches/team/app/manifests/main"
    assert (to.service.region, to.service.path_style, to.service.endpoint_url) == (
        "eu-west-1",
        True,
        "http://h:9000",
    )
    assert to.retention.max_age_s == 3 * 86400
    assert to.everything and to.ignore_error and to.merge and found.may_be_empty
    plain, _ = parse_cache("s3://caches")
    assert isinstance(plain.service, S3Place)
    assert (plain.service.prefix, plain.service.path_style) == ("", False)
    with pytest.raises(UsageError, match='has no attribute "regoin"'):
        parse_cache("s3://caches?regoin=x")


def test_secrets_of_a_bucket_are_not_shown() -> None:
    to = parse_cache_to("type=s3,bucket=abc,access_key_id=k,secret_access_key=hidden")
    assert "hidden" not in repr(to.service) + str(to.service)


def test_a_server_is_told_the_credentials_of_the_environment() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "r"}
    told = with_credentials({"bucket": "abc"}, environ)
    assert told == {
        "bucket": "abc",
        "access_key_id": "k",
        "secret_access_key": "s",
        "region": "r",
    }
    own = {"access_key_id": "x", "secret_access_key": "y", "region": "z"}
    assert with_credentials(own, environ) == own


def test_what_others_wrote_stays_with_max_only() -> None:
    assert parse_cache_to("type=registry,ref=a/b,mode=max").merge
    assert not parse_cache_to("type=registry,ref=a/b").merge
    kept = parse_cache_to("type=registry,ref=a/b,mode=max,max-age=36h,max-size=2GB").retention
    assert (kept.max_age_s, kept.max_bytes) == (36 * 3600, 2 * 10**9)


def test_one_flag_has_a_cache_for_each_branch() -> None:
    tags = ("pr-7", "feature", "main")
    for url, expected in [
        ("ghcr.io/a/b", "ghcr.io/a/b:{}"),
        ("localhost:5000/a", "localhost:5000/a:{}"),
        ("ghcr.io/a/b:{branch}-arm64", "ghcr.io/a/b:{}-arm64"),
        ("s3://caches/app?region=x", "s3://caches/app/manifests/{}"),
        ("s3://caches?name=x-{branch}", "s3://caches/manifests/x-{}"),
    ]:
        to, found = parse_cache(url, tags)
        assert str(to.ref or to.service) == expected.format("pr-7")
        assert [str(one) for one in found] == [expected.format(tag) for tag in tags]
        assert all(one.may_be_empty for one in found)
    for url in ("ghcr.io/a/b:c", "./cache", "s3://caches?name=x"):
        assert len(parse_cache(url, tags)[1]) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("type=nonsense", 'unknown cache exporter: "nonsense"'),
        ("type=azblob", "azblob cache exporter requires account_url"),
        ("type=gha,version=3", 'version="3": 1 or 2'),
        ("type=gha,url=ftp://h/", "expected http:// or https://"),
        ("type=gha,timeout=soon", 'timeout: invalid duration "soon"'),
        ("type=gha,image-manifest=true", 'has no attribute "image-manifest"'),
        ("type=s3,region=x", "s3 cache exporter requires bucket"),
        ("type=s3,bucket=a b", 'invalid bucket name "a b"'),
        ("type=s3,bucket=abc,endpoint_url=host:1", "expected http:// or https://"),
        ("type=s3,bucket=abc,access_key_id=x", "belong together"),
        ("type=s3,bucket=abc,touch_refresh=soon", 'touch_refresh: invalid duration "soon"'),
        ("type=s3,bucket=abc,upload_parallelism=0", "a number from 1 to 64"),
        ("type=s3,bucket=abc,image-manifest=true", 'has no attribute "image-manifest"'),
        ("type=registry,ref=a/b,max-age=old", 'invalid duration "old"'),
        ("type=registry,ref=a/b,max-size=big", 'invalid size "big"'),
        ("type=registry,ref=a/b,merge=perhaps", "expected true or false"),
        ("ref=a/b", "type is required"),
        ("type=registry", "requires ref"),
        ("type=registry,ref=A B", "invalid reference"),
        (f"type=registry,ref=a/b@{DIGEST}", "has no digest"),
        ("type=local", "requires dest"),
        ("type=local,dest=x,mode=most", 'invalid cache mode "most"'),
        ("type=local,dest=x,compression=lz4", 'cache compression "lz4"'),
        ("type=local,dest=x,compression-level=high", "expected 0 to 9"),
        ("type=local,dest=x,compression-level=10", 'compression-level="10": expected 0 to 9'),
        ("type=local,dest=x,compression=zstd,compression-level=23", "expected 0 to 22"),
        ("type=local,dest=x,image-manifest=maybe", "expected true or false"),
        (
            "type=local,dest=x,image-manifest=true,oci-mediatypes=false",
            "OCI mediatypes are required",
        ),
        ("type=local,dest=x,oci-mediatypes=false,compression=zstd", "oci-mediatypes=true"),
        ("type=local,dest=x,color=red", 'has no attribute "color"'),
        ("type=local,dest=x,reset=true", "not supported yet"),
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
        ("type=azblob,account_url=host", "expected https://HOST"),
        ("type=gha,mode=max", 'has no attribute "mode"'),
        ("type=local", "requires src"),
        ("type=local,src=/x,digest=y", "invalid digest"),
        ("type=registry,ref=a/b,mode=max", 'has no attribute "mode"'),
    ],
)
def test_imports_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_cache_from(text)
    assert why in error.value.message


@pytest.mark.parametrize("text", ["", "type=gha", "ref=a/b", "https://example.com/a"])
def test_what_is_no_place_for_a_cache_is_told_what_is(text: str) -> None:
    with pytest.raises(UsageError, match="expected a reference, s3://BUCKET/PATH or a ./directory"):
        parse_cache(text)


def test_caches_by_their_urls_come_after_those_by_name(tmp_path: Path) -> None:
    assert caches_of(str(tmp_path), [], to=[], sources=[]) == {}
    caches = caches_of(
        str(tmp_path),
        [f"{tmp_path}/url"],
        to=["type=local,dest=/to"],
        sources=["type=local,src=/from"],
    )
    assert [one.dest for one in caches.get("cache_to", ())] == ["/to", f"{tmp_path}/url"]
    origins = [one.src for one in caches.get("cache_from", ())]
    assert origins[0] == "/from" and set(origins[1:]) == {f"{tmp_path}/url"}
