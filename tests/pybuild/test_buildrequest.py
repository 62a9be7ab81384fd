"""The options of ``pybuild build`` as a request."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.arguments.build import request_from
from pybuild.builds.memo import POLICY_VARIABLES
from pybuild.builds.request import BuildRequest
from pybuild.commandline.building import BUILD
from pybuild.commandline.parser import BadOption, parse
from pybuild.engine.host import native_platform
from pybuild.model.errors import UsageError
from pybuild.model.platform import Platform
from pybuild.registry.client.credentials import Credential, credential_files


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
    for name in ("SOURCE_DATE_EPOCH", "DOCKER_DEFAULT_PLATFORM", *POLICY_VARIABLES):
        monkeypatch.delenv(name, raising=False)


def request(*words: str) -> BuildRequest:
    return request_from(parse([*words, "ctx"], BUILD.options))


def refused(*words: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        request(*words)
    return caught.value


def outputs(*words: str) -> list[tuple[str, str, dict[str, str]]]:
    return [(one.type, one.dest, dict(one.attrs)) for one in request(*words).outputs]


def test_nothing_asked_is_nothing_set() -> None:
    assert request() == BuildRequest(context="ctx")


def test_each_option_is_a_field() -> None:
    made = request(
        "-f", "d", "--target=T", "--build-arg=A=1", "--build-context=N=./n", "-t", "a:1", "-t", "b",
        "--no-cache", "--no-cache-filter=One,two", "--no-cache-filter=,three", "--pull",
        "--label=k=v", "--label=bare", "--allow=network.host", "--fail-on-miss",
        "--platform=linux/arm64,local", "--max-age=7d", "--max-age", "Two=90m",
    )  # fmt: skip
    assert (made.dockerfile, made.target) == ("d", "T")
    assert made.build_args == {"A": "1"}
    assert made.named_contexts == {"n": "./n"}
    assert list(map(str, made.tags)) == ["docker.io/library/a:1", "docker.io/library/b:latest"]
    assert (made.no_cache, made.pull, made.fail_on_miss) == (True, True, True)
    assert made.no_cache_filter == {"one", "two", "three"}
    assert made.max_ages == {"": 7 * 86400.0, "two": 5400.0}
    assert made.labels == {"k": "v", "bare": ""}
    assert made.allow == {"network.host"}
    assert made.platforms == (Platform.parse("linux/arm64"), native_platform())
    assert (made.load, made.outputs, made.attestations, made.policies) == (None, (), None, None)


def test_the_epoch_of_the_environment_is_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    assert request().build_args == {"SOURCE_DATE_EPOCH": "7"}
    assert request("--build-arg=SOURCE_DATE_EPOCH=9").build_args == {"SOURCE_DATE_EPOCH": "9"}


def test_pull_is_a_flag_or_a_policy() -> None:
    policies = {"": True, "=true": True, "=always": True, "=false": False, "=missing": False}
    for text, pull in {**policies, "=newer": "newer", "=never": "never"}.items():
        assert request(f"--pull{text}").pull == pull


@pytest.mark.parametrize("text", ["", "soon", "a=", "a=soon", "=7d", "-1d"])
def test_no_age_is_refused(text: str) -> None:
    error = refused(f"--max-age={text}")
    assert "invalid" in error.message
    assert error.hints and error.hints[0].startswith("write ")


def test_several_dockerfiles_are_refused() -> None:
    error = refused("-f", "a", "--file=b")
    assert error.message == "-f a -f b: a build has one Dockerfile"
    assert error.hints == ("build once for each of them",)


def test_the_platform_of_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/arm64")
    assert request().platforms == (Platform.parse("linux/arm64"),)
    assert request("--platform=linux/s390x").platforms == (Platform.parse("linux/s390x"),)
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "lix/amd64")
    assert refused().hints[-1] == "$DOCKER_DEFAULT_PLATFORM says so"


def test_proxies_of_dockers_configuration_are_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    file = tmp_path / "config.json"
    file.write_text('{"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "x", "b": 1}}}')
    expected = {"HTTP_PROXY": "http://p:1", "NO_PROXY": "x"}
    expected |= {name.lower(): value for name, value in expected.items()}
    assert request().build_args == expected
    assert request("--build-arg=HTTP_PROXY=").build_args == {**expected, "HTTP_PROXY": ""}
    file.chmod(0o666)  # whoever can change it could read what a step sends
    assert request().build_args == {}
    for text in ("[]", '{"proxies": 1}', "{"):
        file.write_text(text)
        file.chmod(0o600)
        assert request().build_args == {}


def test_a_login_is_for_the_registries_of_the_image(tmp_path: Path) -> None:
    logins = request("--creds=me:se:cret", "-t", "r.example/a", "-t", "b").logins
    assert logins == dict.fromkeys(("r.example", "docker.io"), Credential("me", "se:cret"))
    assert "se:cret" not in repr(request("--creds=me:se:cret", "-t", "a"))
    assert refused("--creds=me:x").message == (
        "invalid --creds: it needs an image: name it with -t"
    )
    assert refused("--creds=:x", "-t", "a").message == "invalid --creds: expected USER[:PASSWORD]"
    missing = tmp_path / "auth.json"
    assert refused(f"--authfile={missing}").message == f"--authfile {missing}: no such file"


def test_a_file_of_logins_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "")
    file = tmp_path / "auth.json"
    file.write_text("{}")
    request(f"--authfile={file}")
    assert credential_files(os.environ)[0] == str(file)


@pytest.mark.parametrize("name", ["squash", "tls-verify", "isolation", "security-opt"])
def test_options_of_others_are_refused_by_name(name: str) -> None:
    with pytest.raises(BadOption, match=f"^--{name} is not done by pybuild$") as caught:
        request(f"--{name}=x")
    assert caught.value.hint != BadOption.hint
    assert request("--rm=false", "--force-rm", "--compress") == request()


def test_a_wrong_tag_is_refused() -> None:
    assert refused("-t", "A:b").message.startswith('invalid tag "A:b": invalid reference format')


def test_push_is_an_output_or_a_word_about_one() -> None:
    assert outputs("--push", "-t", "a") == [("registry", "", {})]
    assert outputs("--push", "-t", "a", "-o", "type=registry") == [("registry", "", {})]
    several = ("-o", "out", "-o", "type=image,name=x", "-o", "type=tar,dest=-")
    assert outputs("--push", *several) == [
        ("local", "out", {}),
        ("image", "", {"name": "x", "push": "true"}),
        ("tar", "-", {}),
    ]
    assert outputs("--push", "-t", "a", "-o", "out") == [
        ("local", "out", {}),
        ("registry", "", {}),
    ]


def test_what_is_pushed_needs_a_name() -> None:
    for words in (("--push",), ("-o", "type=registry"), ("-o", "type=image,push=true")):
        error = refused(*words)
        assert error.message == "tag is needed when pushing to registry"
        assert error.hints == ("name the image with -t",)
    assert outputs("-o", "type=registry,name=x") == [("registry", "", {"name": "x"})]
    assert outputs("-o", "type=image,push=false") == [("image", "", {"push": "false"})]
    assert outputs("-o", "type=registry", "-t", "x") == [("registry", "", {})]


def test_load_is_an_output_apart() -> None:
    made = request("--load", "-o", "out")
    assert made.load is not None
    assert (made.load.type, [one.type for one in made.outputs]) == ("image", ["local"])


def test_annotations_are_those_of_every_image() -> None:
    note = "--annotation=k=v"
    attr = {"annotation-manifest.k": "v"}
    assert outputs(note) == [("image", "", attr)]
    assert outputs(note, "-o", "out", "-o", "type=oci,dest=x") == [
        ("local", "out", {}),
        ("oci", "x", attr),
    ]
    own = "type=image,annotation-manifest.k=mine"
    assert outputs(note, "-o", own) == [("image", "", {"annotation-manifest.k": "mine"})]
    made = request(note, "--load")
    assert made.outputs == () and made.load is not None and made.load.attrs == attr
    made = request(note, "--load", "-o", "out")
    assert [one.type for one in made.outputs] == ["local"]
    assert made.load is not None and made.load.attrs == attr
    assert refused(note, "-o", "out").message == "--annotation needs an output that is an image"


def test_modes_of_files_are_those_of_git_for_a_cache_that_others_have() -> None:
    assert request().git_modes is False
    assert request("--modes=git").git_modes is True
    assert request("--cache=./c").git_modes is True
    assert request("--cache=./c", "--modes=keep").git_modes is False
    assert request("--cache-to=type=local,dest=c").git_modes is False
    assert refused("--modes=all").message == 'invalid modes "all": one of git, keep'


def test_the_cache_that_goes_both_ways_comes_last(tmp_path: Path) -> None:
    made = request(
        f"--cache={tmp_path}/both", "--cache-to=type=inline", "--cache-from=r.example/a:1",
    )  # fmt: skip
    assert [one.type for one in made.cache_to] == ["inline", "local"]
    assert [str(one) for one in made.cache_from] == ["r.example/a:1", f"{tmp_path}/both"]
    only = request("--cache-from=r.example/a:1")
    assert (only.cache_to, len(only.cache_from)) == ((), 1)
    only = request("--cache-to=r.example/a:1")
    assert (len(only.cache_to), only.cache_from) == (1, ())


def test_attestations_are_read_where_one_is_named() -> None:
    for words in (("--sbom=true",), ("--attest=type=sbom",)):
        made = request(*words).attestations
        assert made is not None and made.sbom is not None and made.provenance is None
    made = request("--provenance=mode=min").attestations
    assert made is not None and made.provenance is not None and made.sbom is None


def test_limits_that_no_kernel_knows_are_refused_before_the_build() -> None:
    assert request("--ulimit=nofile=64:128").steps.ulimits == (("nofile", 64, 128),)
    assert "nofiles" in refused("--ulimit=nofiles=1").message
    assert request("--hostname=box").steps.hostname == "box"


def test_rules_for_sources_are_those_named_else_those_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = str(tmp_path / "gone.json")
    assert gone in refused(f"--source-policy-file={gone}").message
    other = str(tmp_path / "other.json")
    for name in POLICY_VARIABLES:
        monkeypatch.setenv(name, other)
        assert other in refused().message
        assert gone in refused(f"--source-policy-file={gone}").message
        monkeypatch.setenv(name, "")
        assert request().policies is None


def test_two_secrets_of_one_name_are_the_last(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    made = request(f"--secret=id=s,src={tmp_path}/one", f"--secret=id=s,src={tmp_path}/two")
    assert made.secrets["s"].read() == b"two"
