"""The attributes of a cache by default, and each of them as it is given [CCH-1..5]."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.image.cacheformat.merge import Retention
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError
from pybuild.model.reference import Reference
from pybuild.remotecache.options import (
    CacheFrom,
    CacheTo,
    cache_from,
    cache_to,
    in_doubt,
    parse_cache_from,
    parse_cache_to,
)
from pybuild.remotecache.places.s3options import (
    S3Place,
    attrs_of_url,
    s3_place,
    with_credentials,
)

REF = Reference.parse("a/b")


def test_an_export_without_attributes_is_small_and_an_image_of_oci() -> None:
    assert cache_to("registry", {"ref": "a/b"}) == CacheTo(
        type="registry", ref=REF, attrs={"ref": "a/b"}
    )
    plain = CacheTo(type="x")
    assert (plain.tag, plain.compression, plain.level) == ("latest", "gzip", None)
    assert (plain.everything, plain.merge, plain.ignore_error) == (False, False, False)
    assert (plain.image_manifest, plain.oci_types, plain.force_compression) == (True, True, False)
    assert plain.retention == Retention()
    assert cache_to("local", {"dest": "/c", "tag": ""}).tag == "latest"


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"mode": "max"}, {"everything": True, "merge": True}),
        ({"mode": "max", "merge": "false"}, {"everything": True}),
        ({"mode": ""}, {}),
        ({"merge": "1"}, {"merge": True}),
        ({"tag": "t"}, {"tag": "t"}),
        ({"image-manifest": "0"}, {"image_manifest": False}),
        ({"oci-mediatypes": "FALSE"}, {"image_manifest": False, "oci_types": False}),
        ({"compression": "zstd", "compression-level": "22"}, {"compression": "zstd", "level": 22}),
        ({"compression": "uncompressed"}, {"compression": "uncompressed"}),
        ({"compression-level": "0"}, {"level": 0}),
        ({"force-compression": "true"}, {"force_compression": True}),
        ({"ignore-error": "True"}, {"ignore_error": True}),
        ({"max-age": "1h"}, {"retention": Retention(max_age_s=3600.0)}),
        ({"max-size": "5kB"}, {"retention": Retention(max_bytes=5000)}),
        ({"mounts": "true"}, {"mounts": True}),
        ({"mounts-max-size": "1kB"}, {"mount_bytes": 1000}),
        ({"reset": "false"}, {}),
        ({"registry.insecure": "0"}, {}),
    ],
)
def test_each_attribute_of_an_export_changes_its_own(
    attrs: dict[str, str], expected: dict[str, Any]
) -> None:
    given = {"dest": "/c", **attrs}
    found = cache_to("local", given)
    assert found == CacheTo(type="local", dest="/c", attrs=given, **expected)


def test_a_server_passes_over_attributes_that_it_does_not_know() -> None:
    assert cache_to("local", {"dest": "/c", "new": "x"}, strict=False).dest == "/c"
    assert cache_from("local", {"src": "/c", "new": "x"}, strict=False).src == "/c"
    with pytest.raises(UsageError) as caught:
        cache_to("inline", {"new": "x"})
    assert caught.value.message == 'cache-to type=inline has no attribute "new"'
    assert caught.value.hints == ("it has: ignore-error",)
    with pytest.raises(UsageError, match=r"^cache-to type=local: reset=1 is not supported yet$"):
        cache_to("local", {"dest": "/c", "reset": "1"})


def test_kinds_that_there_are_not_name_those_that_there_are() -> None:
    with pytest.raises(UsageError, match='unknown cache exporter: "azure"') as caught:
        cache_to("azure", {})
    assert "type=azblob" in caught.value.hints[0]
    with pytest.raises(UsageError, match='unknown cache importer: "inline"'):
        cache_from("inline", {})


def test_an_import_is_shown_as_the_place_that_it_is() -> None:
    digest = Digest.of(b"x")
    assert cache_from("registry", {"ref": "a/b"}) == CacheFrom(
        type="registry", ref=REF, attrs={"ref": "a/b"}
    )
    assert str(cache_from("local", {"src": "/c"})) == "/c"
    both = cache_from("local", {"src": "/c", "tag": "t", "digest": digest})
    assert (both.tag, both.digest, str(both)) == ("t", digest, f"/c@{digest}")
    assert str(cache_from("s3", {"bucket": "abc"})) == "s3://abc/manifests/buildkit"
    assert not both.may_be_empty
    with pytest.raises(UsageError, match='^cache importer: invalid digest "x"$'):
        cache_from("local", {"src": "/c", "digest": "x"})


def test_an_import_may_have_a_digest_and_an_export_may_not() -> None:
    ref = f"a/b@{Digest.of(b'x')}"
    assert cache_from("registry", {"ref": ref}).ref is not None
    with pytest.raises(UsageError, match="a name to push to has no digest"):
        cache_to("registry", {"ref": ref})


def test_fields_are_read_as_csv_with_keys_in_any_case() -> None:
    found = parse_cache_to('type=local,"dest=/a,b", MODE=max')
    assert (found.dest, found.everything) == ("/a,b", True)
    assert parse_cache_to("type=inline,ignore-error").ignore_error
    with pytest.raises(UsageError, match='field "mode" must be a key=value pair'):
        parse_cache_from("type=local,mode")
    with pytest.raises(UsageError, match='^invalid cache-from "src=/c": type is required$'):
        parse_cache_from("src=/c")


def test_a_doubt_is_added_where_there_is_one() -> None:
    assert in_doubt("it failed", "") == "it failed"
    assert in_doubt("it failed", "./c") == "it failed (did you mean ./c?)"


@pytest.fixture(autouse=True)
def no_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_BUCKET", raising=False)


def test_a_bucket_alone_has_the_names_of_buildkit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = s3_place({"bucket": "abc"}, "exporter")
    assert found == S3Place(bucket="abc")
    assert (found.names, found.prefix) == (("buildkit",), "")
    assert (found.manifests_prefix, found.blobs_prefix) == ("manifests/", "blobs/")
    assert (found.touch_s, found.parallel, found.path_style) == (86400.0, 4, False)
    with pytest.raises(UsageError, match="^s3 cache importer requires bucket$"):
        s3_place({}, "importer")
    monkeypatch.setenv("AWS_BUCKET", "env")
    assert s3_place({}, "exporter") == S3Place(bucket="env")
    assert s3_place({"bucket": "abc"}, "exporter").bucket == "abc"


def test_each_attribute_of_a_bucket_is_read() -> None:
    attrs = {
        "bucket": "abc",
        "region": "r",
        "name": "x;;y",
        "prefix": "p/",
        "manifests_prefix": "m/",
        "blobs_prefix": "b/",
        "endpoint_url": "https://h:1",
        "use_path_style": "TRUE",
        "access_key_id": "k",
        "secret_access_key": "s",
        "session_token": "t",
        "touch_refresh": "2h",
        "upload_parallelism": "64",
    }
    found = s3_place(attrs, "exporter")
    assert found == S3Place(
        bucket="abc",
        region="r",
        names=("x", "y"),
        prefix="p/",
        manifests_prefix="m/",
        blobs_prefix="b/",
        endpoint_url="https://h:1",
        path_style=True,
        access_key_id="k",
        secret_access_key="s",
        session_token="t",
        touch_s=7200.0,
        parallel=64,
    )
    assert str(found) == "s3://abc/p/m/x;y"


@pytest.mark.parametrize(
    ("attrs", "why"),
    [
        ({"bucket": "a"}, 'invalid bucket name "a"'),
        ({"bucket": "-bc"}, 'invalid bucket name "-bc"'),
        ({"bucket": "a" * 256}, "invalid bucket name"),
        ({"bucket": "abc\n"}, "invalid bucket name"),
        ({"endpoint_url": "ftp://h"}, "expected http:// or https://"),
        ({"secret_access_key": "x"}, "belong together"),
        ({"use_path_style": "perhaps"}, 'use_path_style="perhaps": expected true or false'),
        ({"upload_parallelism": "0"}, 'upload_parallelism="0": a number from 1 to 64'),
        ({"upload_parallelism": "65"}, 'upload_parallelism="65": a number from 1 to 64'),
        ({"upload_parallelism": "-1"}, "a number from 1 to 64"),
        ({"upload_parallelism": "٣"}, "a number from 1 to 64"),
        ({"touch_refresh": "soon"}, 'touch_refresh: invalid duration "soon"'),
    ],
)
def test_a_wrong_attribute_of_a_bucket_is_named(attrs: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError) as caught:
        s3_place({"bucket": "abc", **attrs}, "exporter")
    assert why in caught.value.message


@pytest.mark.parametrize("text", ["ab", "a" * 255, "arn:aws:s3:r:1:accesspoint/x"])
def test_a_bucket_may_be_an_access_point(text: str) -> None:
    assert s3_place({"bucket": text, "upload_parallelism": "1"}, "exporter").bucket == text


def test_the_environments_credentials_fill_what_is_missing() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "k", "AWS_SESSION_TOKEN": "t", "AWS_DEFAULT_REGION": "d"}
    filled = with_credentials({}, environ)
    assert filled == {"access_key_id": "k", "session_token": "t", "region": "d"}
    both = {"AWS_REGION": "r", "AWS_DEFAULT_REGION": "d"}
    assert with_credentials({}, both) == {"region": "r"}
    assert with_credentials({"region": "x"}, both) == {"region": "x"}
    assert with_credentials({}, {}) == {}
    given = {"access_key_id": "own"}
    assert with_credentials(given, environ)["access_key_id"] == "own"
    assert given == {"access_key_id": "own"}


def test_a_url_is_a_bucket_a_folder_and_attributes() -> None:
    assert attrs_of_url("s3://abc") == {"bucket": "abc", "prefix": ""}
    assert attrs_of_url("s3://abc//a/b//?region=r&max-age=&max-size=1") == {
        "bucket": "abc",
        "prefix": "a/b/",
        "region": "r",
        "max-age": "",
        "max-size": "1",
    }
    endpoint = "s3://abc?endpoint_url=http://h"
    assert attrs_of_url(endpoint)["use_path_style"] == "true"
    assert attrs_of_url(f"{endpoint}&use_path_style=false")["use_path_style"] == "false"
    for name in ("bucket", "prefix", "mode"):
        with pytest.raises(UsageError, match=f'^s3 cache has no attribute "{name}"$') as caught:
            attrs_of_url(f"s3://abc?{name}=x")
        assert "region" in caught.value.hints[0]
