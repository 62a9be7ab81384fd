"""``[registry-server]`` and the flags of ``registry serve``, read together."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.cache.repositories.collect import Keeping
from pybuild.commandline.parser import parse
from pybuild.commandline.registries import COMMANDS
from pybuild.engine.servesettings import Serving, read_keeping, read_serving
from pybuild.engine.table import Table
from pybuild.model.errors import UsageError
from pybuild.registry.server.access import ALL, MEMBERS, Rule
from pybuild.registry.server.routes import Permission
from pybuild.registry.server.settings import ClientLimits, RegistrySettings, UpstreamSettings

OPTIONS = next(command for command in COMMANDS if command.name == "registry").options


def serving(content: dict[str, Any], *flags: str) -> Serving:
    return read_serving(Table("f", "registry-server", content), parse(flags, OPTIONS))


def refused(content: dict[str, Any], *flags: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        serving(content, *flags)
    return caught.value


def test_nothing_said_is_an_open_registry_on_this_machine() -> None:
    made = serving({})
    assert made.addresses == ("127.0.0.1:5000",)
    assert made.server.access.rules == (ALL,)
    assert made.server.limits == ClientLimits()
    assert made.server.keeping == Keeping(blobs=3600.0, released=3600.0, untagged=None)
    assert made.server.upstreams == ()
    server = made.server
    assert (server.tokens, server.read_only, server.deletion) == (False, False, True)
    assert (server.service, server.collect_every_s, server.grace_s) == (
        "pybuild-registry", 600.0, 30.0,
    )  # fmt: skip
    texts = (server.htpasswd, server.cert, server.key, server.ca, server.metrics)
    assert texts == ("",) * 5
    assert (server.issuer, server.issuer_keys, server.issuer_url) == ("", "", "")
    assert server.external_url == ""


def test_each_key_of_the_file_is_its_setting() -> None:
    made = serving(
        {
            "address": ["a:1", "b:2"],
            "metrics": "m:3",
            "external-url": "https://r.example",
            "read-only": True,
            "delete": False,
            "grace": "5s",
            "tls": {"cert": "c", "key": "k", "ca": "a"},
            "auth": {
                "htpasswd": "h",
                "tokens": True,
                "service": "s",
                "issuer": {"name": "n", "keys": "p", "url": "u"},
            },
            "limits": {
                "manifest": "2MiB",
                "blob": "10GB",
                "transfers": 3,
                "uploads": 4,
                "connections": 5,
                "idle": "6s",
            },
            "keep": {
                "blobs": "7s",
                "released": "8s",
                "untagged": "9s",
                "uploads": "10s",
                "every": "11s",
            },
        }
    )
    assert made.addresses == ("a:1", "b:2")
    limits = ClientLimits(
        manifest_bytes=2 << 20,
        blob_bytes=10_000_000_000,
        transfers=3,
        uploads=4,
        connections=5,
        idle_s=6.0,
        upload_kept_s=10.0,
    )
    assert made.server == RegistrySettings(
        access=made.server.access,
        htpasswd="h",
        tokens=True,
        issuer="n",
        issuer_keys="p",
        issuer_url="u",
        service="s",
        metrics="m:3",
        cert="c",
        key="k",
        ca="a",
        external_url="https://r.example",
        read_only=True,
        deletion=False,
        limits=limits,
        keeping=Keeping(blobs=7.0, released=8.0, untagged=9.0),
        collect_every_s=11.0,
        grace_s=5.0,
    )
    assert made.server.access.rules == (MEMBERS,)


def test_flags_win_over_the_file() -> None:
    file = {
        "address": ["a:1"],
        "metrics": "m:1",
        "tls": {"cert": "c", "key": "k", "ca": "a"},
        "auth": {"htpasswd": "h"},
    }
    flags = ("--addr=x:1", "--addr=y:2", "--metrics=m:2", "--tlscert=C", "--tlskey=K")
    made = serving(file, *flags, "--tlscacert=A", "--htpasswd=H", "--tokens", "--read-only")
    assert made.addresses == ("x:1", "y:2")
    server = made.server
    assert (server.metrics, server.htpasswd) == ("m:2", "H")
    assert (server.cert, server.key, server.ca) == ("C", "K", "A")
    assert (server.tokens, server.read_only) == (True, True)


@pytest.mark.parametrize("number", ["transfers", "uploads", "connections"])
def test_a_limit_of_none_at_all_is_the_usual_one(number: str) -> None:
    assert serving({"limits": {number: 0}}).server.limits == ClientLimits()


@pytest.mark.parametrize(
    ("content", "flags", "message", "hints"),
    [
        ({"tls": {"key": "k"}}, (), "TLS needs a certificate", ("give it with --tlscert",)),
        ({}, ("--tlscacert=a",), "TLS needs a certificate", ("give it with --tlscert",)),
        ({"auth": {"tokens": True}}, (), "tokens need users", ("give them with --htpasswd FILE",)),
        ({}, ("--tokens",), "tokens need users", ("give them with --htpasswd FILE",)),
        (
            {"auth": {"issuer": {"name": "n"}}}, (),
            "registry-server.auth.issuer needs a name and keys", (),
        ),
        (
            {"auth": {"issuer": {"keys": "k"}}}, (),
            "registry-server.auth.issuer needs a name and keys", (),
        ),
    ],
)  # fmt: skip
def test_halves_that_need_another(
    content: dict[str, Any], flags: tuple[str, ...], message: str, hints: tuple[str, ...]
) -> None:
    error = refused(content, *flags)
    assert (error.message, error.hints) == (message, hints)


def test_a_certificate_alone_is_enough() -> None:
    assert serving({}, "--tlscert=c").server.cert == "c"
    assert serving({}, "--tlscert=c", "--tlskey=k", "--tlscacert=a").server.ca == "a"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"adress": "x"}, "adress"),
        ({"tls": {"crt": ""}}, "tls.crt"),
        ({"auth": {"token": True}}, "auth.token"),
        ({"auth": {"issuer": {"names": ""}}}, "auth.issuer.names"),
        ({"limits": {"blobs": "1"}}, "limits.blobs"),
        ({"keep": {"blob": "1h"}}, "keep.blob"),
        ({"access": [{"user": ["x"]}]}, "access.user"),
        ({"upstream": {"hub": {"hosts": "x"}}}, "upstream.hub.hosts"),
    ],
)
def test_unknown_keys_are_named(content: dict[str, Any], place: str) -> None:
    start = f'configuration file f: unknown key "registry-server.{place}" (did you mean '
    assert refused(content).message.startswith(start)


def test_rules_take_the_place_of_the_usual_ones() -> None:
    item = {"users": ["*"], "repositories": ["team/*"], "actions": ["pull", "push"]}
    made = serving({"access": [item, {"users": ["root"]}], "auth": {"htpasswd": "h"}})
    assert made.server.access.rules == (
        Rule(
            users=("*",),
            repositories=("team/*",),
            actions=frozenset((Permission.PULL, Permission.PUSH)),
        ),
        Rule(users=("root",), repositories=(), actions=frozenset()),
    )
    error = refused({"access": [{"actions": ["pull", "write"]}]})
    assert error.message == (
        'configuration file f: "registry-server.access.actions" must be '
        "a list of pull, push, delete, not 'write'"
    )


def test_users_of_an_issuer_are_users() -> None:
    issuer = {"name": "n", "keys": "k"}
    assert serving({"auth": {"issuer": issuer}}).server.access.rules == (MEMBERS,)


def test_upstreams_by_their_names() -> None:
    made = serving(
        {
            "upstream": {
                "hub": {"host": "docker.io", "fresh": "10s", "for-all": True},
                "a/b": {"host": "r.example:5000"},
            }
        }
    )
    assert made.server.upstreams == (
        UpstreamSettings(prefix="a/b", host="r.example:5000", fresh_s=600.0, for_all=False),
        UpstreamSettings(prefix="hub", host="docker.io", fresh_s=10.0, for_all=True),
    )
    assert refused({"upstream": {"Hub": {"host": "x.y"}}}).message == (
        'configuration file f: "registry-server.upstream.Hub" must be '
        "named like a repository, not 'Hub'"
    )
    for host in ("", "no host"):
        assert refused({"upstream": {"hub": {"host": host}}}).message == (
            'configuration file f: "registry-server.upstream.hub.host" must be '
            f"a registry's host, such as docker.io, not {host!r}"
        )


def test_untagged_manifests_stay_unless_a_time_is_named() -> None:
    assert read_keeping(Table("f", "", {})).untagged is None
    assert read_keeping(Table("f", "", {"keep": {"untagged": "0s"}})).untagged == 0.0
    assert read_keeping(Table("f", "", {"keep": {"untagged": "1h"}})).untagged == 3600.0
