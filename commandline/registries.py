"""Commands about registries, and the images in them."""

from __future__ import annotations

from pybuild.commandline.parser import (
    ALLOW_SECRET,
    AUTHFILE,
    CREDS,
    FORMAT,
    GLOBAL,
    PLATFORM,
    PROGRESS,
    Command,
)
from pybuild.model.options import Option

COMMANDS: tuple[Command, ...] = (
    Command(
        "imagetools",
        "Look at, join, copy and delete images in registries and OCI layouts.",
        "pybuild.commands.imagetools:main",
        (
            Option("annotation", "create: annotate ([TYPE:]key=value)", "K=V", repeat=True),
            Option("append", "create: add to what the name stands for already"),
            Option("dry-run", "create: show the index, push nothing"),
            Option("file", "create: a source's descriptor, as JSON", "FILE", "f", True),
            Option("force", "rm: ignore what is not there"),
            Option("format", "inspect: json, or a template ({{json .Manifest}})", "FORMAT"),
            Option("metadata-file", "create: write what was made to a file", "FILE"),
            PLATFORM,
            Option("prefer-index", "create: an index even of one image (true)"),
            Option("raw", "inspect: the exact bytes"),
            Option("referrers", "inspect, copy: what refers to the image, such as signatures"),
            Option("tag", "create: name of the index", "NAME", "t", True),
            *GLOBAL,
        ),
        (
            "inspect NAME | create SOURCE… | copy SOURCE TARGET… | rm NAME:TAG|NAME@DIGEST…",
            1,
            -1,
        ),
    ),
    Command(
        "login",
        "Log in to a registry, Docker Hub by default.",
        "pybuild.commands.login:login",
        (
            Option("username", "user name", "NAME", "u"),
            Option("password", "password, or a token; others can see it", "TEXT", "p"),
            Option("password-stdin", "take the password from standard input"),
            *GLOBAL,
        ),
        ("[REGISTRY]", 0, 1),
    ),
    Command(
        "logout",
        "Forget the login to a registry.",
        "pybuild.commands.login:logout",
        GLOBAL,
        ("[REGISTRY]", 0, 1),
    ),
    Command(
        "pull",
        "Pull an image from a registry into the local store.",
        "pybuild.commands.transfer:pull",
        (
            AUTHFILE,
            CREDS,
            PLATFORM,
            PROGRESS,
            Option("quiet", "only the name", short="q"),
            *GLOBAL,
        ),
        ("NAME", 1, 1),
    ),
    Command(
        "push",
        "Push an image of the local store to its registry.",
        "pybuild.commands.transfer:push",
        (
            Option("all-tags", "all tags that the store has of the repository", short="a"),
            ALLOW_SECRET,
            AUTHFILE,
            CREDS,
            PROGRESS,
            Option("quiet", "only the name", short="q"),
            *GLOBAL,
        ),
        ("NAME", 1, 1),
    ),
    Command(
        "registry",
        "Serve the store as a registry, and look after what is in it.",
        "pybuild.commands.registry:main",
        (
            Option("addr", "address to listen on (default: 127.0.0.1:5000)", "ADDR", "", True),
            Option("force", "with rm: ignore what is not there", short="f"),
            FORMAT,
            Option("htpasswd", "only these users, as htpasswd -B writes them", "FILE"),
            Option("metrics", "address at which Prometheus reads /metrics", "ADDR"),
            Option("read-only", "nothing can be pushed or deleted"),
            Option("tlscacert", "clients need a certificate of this authority", "FILE"),
            Option("tlscert", "certificate of the server", "FILE"),
            Option("tlskey", "its key", "FILE"),
            Option("tokens", "give and take tokens, not Basic alone"),
            *GLOBAL,
        ),
        ("serve | ls [NAME…] | rm NAME:TAG|NAME@DIGEST…", 1, -1),
    ),
    Command(
        "search",
        "Search a registry, Docker Hub by default, for repositories.",
        "pybuild.commands.discover:search",
        (Option("limit", "at most so many (25)", "N"), FORMAT, *GLOBAL),
        ("[REGISTRY/]TERM", 1, 1),
    ),
    Command(
        "tags",
        "List the tags of a repository in its registry.",
        "pybuild.commands.discover:tags",
        (FORMAT, *GLOBAL),
        ("NAME", 1, 1),
    ),
)
