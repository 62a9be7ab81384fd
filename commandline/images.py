"""Commands about the images of the local store."""

from __future__ import annotations

from pybuild.commandline.parser import (
    FORCE,
    GLOBAL,
    HISTORY,
    PLATFORM,
    TEMPLATE,
    TREES,
    Command,
)
from pybuild.model.options import Option

_INSPECTION = (
    Option("check", "recompute every digest, diffID and size of the image"),
    Option("format", "json, or a template ({{.Config.Env}}), of docker's names", "FORM", "f"),
    Option("oci", "an image as OCI describes it: descriptor, manifest, config with its history"),
    Option("raw", "the manifest's exact bytes"),
)

COMMANDS: tuple[Command, ...] = (
    Command(
        "export",
        "Write the file tree of a container, or of an image, as a tar.",
        "pybuild.commands.containertrees:export",
        (Option("output", "file (default: standard output)", "FILE", "o"), *TREES),
        ("NAME", 1, 1),
    ),
    Command(
        "history",
        "Show how an image came about; the builds of this machine: history ls, logs, inspect, …",
        "pybuild.commands.images:history",
        (
            Option("no-trunc", "do not shorten anything"),
            Option("quiet", "only ids", short="q"),
            TEMPLATE,
            PLATFORM,
            *GLOBAL,
        ),
        ("NAME", 1, 1),
        HISTORY,
    ),
    Command(
        "image",
        "Do any of these with the images of the local store, as docker and podman group them.",
        "",
        GLOBAL,
        ("VERB [NAME…]", 0, -1),
        {
            "build": "build",
            "history": "history",
            "import": "import",
            "inspect": "image inspect",
            "list": "images",
            "load": "load",
            "ls": "images",
            "prune": "image prune",
            "pull": "pull",
            "push": "push",
            "remove": "rmi",
            "rm": "rmi",
            "save": "save",
            "tag": "tag",
        },
    ),
    Command(
        "image inspect",
        "Show images as JSON, with docker's names for their parts.",
        "pybuild.commands.images:inspect",
        (*_INSPECTION, *GLOBAL),
        ("NAME…", 1, -1),
    ),
    Command(
        "image prune",
        "Remove the images that have no name, and what they alone need.",
        "pybuild.commands.images:prune",
        (
            Option(
                "all", "all images that no process uses, not only those without a name", "", "a"
            ),
            Option("filter", "only what matches (until=24h, dangling=false)", "K=V", "", True),
            FORCE,
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
    Command(
        "images",
        "List the images of the local store.",
        "pybuild.commands.images:images",
        (
            Option("all", "accepted: all images are shown", short="a"),
            Option("digests", "show manifest digests"),
            Option(
                "filter",
                "only what matches (dangling=true, label=K[=V], reference=PATTERN, before=IMAGE, …)",
                "K=V",
                "f",
                True,
            ),
            Option("no-trunc", "do not shorten ids"),
            Option("quiet", "only ids", short="q"),
            TEMPLATE,
            *GLOBAL,
        ),
        ("[NAME]", 0, 1),
    ),
    Command(
        "import",
        "Make an image from a tar of a file tree.",
        "pybuild.commands.archives:import_",
        (
            Option("change", "Dockerfile instruction to apply", "INSTRUCTION", "c", True),
            *TREES,
        ),
        ("FILE|URL|- [NAME]", 1, 2),
    ),
    Command(
        "inspect",
        "Show containers, images and volumes as JSON, with docker's names for their parts.",
        "pybuild.commands.inspecting:inspect",
        (
            *_INSPECTION,
            Option("size", "of a container: with the sizes of its files", short="s"),
            Option(
                "type",
                "only of these: container, image or volume",
                "KIND",
                values=("container", "image", "volume"),
            ),
            *GLOBAL,
        ),
        ("NAME…", 1, -1),
    ),
    Command(
        "load",
        "Take the images of an archive or an OCI layout into the local store.",
        "pybuild.commands.archives:load",
        (
            Option("input", "archive or directory (default: standard input)", "FILE", "i"),
            Option("quiet", "accepted: no progress is shown", short="q"),
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
    Command(
        "rmi",
        "Remove names, and with its last name the image, from the local store.",
        "pybuild.commands.images:rmi",
        (
            Option("force", "ignore names that are not there", short="f"),
            Option("no-prune", "accepted: images below it stay in any case"),
            *GLOBAL,
        ),
        ("NAME…", 1, -1),
    ),
    Command(
        "save",
        "Write images to an archive, by default for docker load.",
        "pybuild.commands.archives:save",
        (
            Option("format", "docker or oci", "KIND", values=("docker", "oci")),
            Option("output", "file (default: standard output)", "FILE", "o"),
            PLATFORM,
            *GLOBAL,
        ),
        ("NAME…", 1, -1),
    ),
    Command(
        "tag",
        "Give an image of the local store another name.",
        "pybuild.commands.images:tag",
        GLOBAL,
        ("SOURCE NAME", 2, 2),
    ),
    Command(
        "unpack",
        "Unpack an image into an OCI runtime bundle.",
        "pybuild.commands.run:unpack",
        (Option("rootless", "make the bundle for an unprivileged runtime"), *GLOBAL),
        ("NAME DIR", 2, 2),
    ),
)
