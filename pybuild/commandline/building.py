"""Commands that build, and that say how builds went or would go."""

from __future__ import annotations

from pybuild.commandline.parser import (
    CA,
    CACHE_MAX,
    FORMAT,
    GLOBAL,
    PLATFORM,
    PROGRESS,
    REMOTE,
    RUNTIME,
    TLS,
    Command,
)
from pybuild.model.options import STEP_FLAGS, Option

# What makes a build another one; where it goes and what is told of it is for verify to say.
_VERIFIED = frozenset(
    (
        "allow",
        "build-arg",
        "build-context",
        "ca",
        "cache-from",
        "file",
        "label",
        "modes",
        "no-cache",
    )
    + ("platform", "progress", "quiet", "secret", "ssh", "target")
    + tuple(option.name for option in STEP_FLAGS)
)

_BUILDING: tuple[Option, ...] = (
    Option(
        "allow",
        "grant an entitlement: network.host, security.insecure, device[=NAME], buildx.local.delete",
        "NAME",
        "",
        True,
        values=("network.host", "security.insecure", "device", "buildx.local.delete"),
    ),
    Option("annotation", "annotate the image ([TYPE:]key=value)", "K=V", repeat=True),
    Option(
        "attest",
        "attest the result (type=provenance|sbom,…)",
        "SPEC",
        repeat=True,
        attribute="attest:TYPE",
    ),
    Option("build-arg", "set a build-time variable", "K[=V]", repeat=True, attribute="build-arg:K"),
    Option(
        "build-context",
        "additional build context (name=path|URL)",
        "NAME=SRC",
        repeat=True,
        attribute="context:NAME",
    ),
    Option(
        "call",
        "instead of building: check, outline or targets[,format=json][,ignorestatus]",
        "METHOD",
        values=("check", "outline", "targets"),
    ),
    CA,
    Option(
        "cache",
        "keep the cache there, and start from it (registry ref, ./dir, s3://…)",
        "URL",
        "",
        True,
    ),
    Option("cache-from", "start from this cache (type=…,ref=…|src=…, or a ref)", "SPEC", "", True),
    CACHE_MAX,
    Option("cache-to", "keep the cache there (type=…,ref=…|dest=…, or a ref)", "SPEC", "", True),
    Option("check", "shorthand for --call=check: warn about what is worth mending"),
    Option("explain", "say at the end why steps were not cached"),
    Option(
        "fail-on-miss",
        "let no step run: fail at the first that is not cached",
        attribute="pybuild.fail-on-miss",
    ),
    Option(
        "file",
        "name of the Dockerfile (default: PATH/Dockerfile)",
        "FILE",
        "f",
        attribute="filename",
    ),
    Option("iidfile", "write the image ID to a file", "FILE"),
    Option("label", "set metadata for an image", "K=V", repeat=True, attribute="label:K"),
    Option("load", "shorthand for --output=type=image: keep the image in the local store"),
    Option("metadata-file", "write build result metadata to a file", "FILE"),
    Option(
        "modes",
        "modes of context files: keep, or as git stores them: git",
        "KIND",
        values=("keep", "git"),
    ),
    Option("no-cache", "do not use stored results", attribute="no-cache"),
    Option(
        "no-cache-filter",
        "do not use stored results for these stages",
        "LIST",
        "",
        True,
        attribute="no-cache",
    ),
    Option("output", "output destination (type=…,dest=…)", "SPEC", "o", True),
    PLATFORM,
    PROGRESS,
    Option(
        "provenance",
        "shorthand for --attest=type=provenance: true, false or options",
        "SPEC",
        attribute="attest:provenance",
    ),
    Option("pull", "always ask the registry for newer base images", attribute="image-resolve-mode"),
    Option("push", "shorthand for --output=type=registry"),
    Option("quiet", "print only the image ID", short="q"),
    RUNTIME,
    Option(
        "sbom",
        "shorthand for --attest=type=sbom: true, false or generator=IMAGE",
        "SPEC",
        attribute="attest:sbom",
    ),
    Option("secret", "secret for the build (id=x[,src=path|env=VAR])", "SPEC", repeat=True),
    Option(
        "source-policy-file",
        "rules that allow, refuse or replace sources, as JSON "
        "(default: $EXPERIMENTAL_BUILDKIT_SOURCE_POLICY)",
        "FILE",
    ),
    Option(
        "ssh",
        "forward an agent or keys (default|ID[=SOCKET|KEY[,KEY]][,raw=true])",
        "SPEC",
        "",
        True,
    ),
    Option("tag", "name of the image (name[:tag])", "NAME", "t", True),
    Option("target", "stage to build", "STAGE", attribute="target"),
    *STEP_FLAGS,
)

BUILD = Command(
    "build",
    "Build an image from a Dockerfile.",
    "pybuild.commands.build:main",
    (*sorted(_BUILDING, key=lambda option: option.name), *REMOTE, *GLOBAL),
    ("PATH|URL|-", 1, 1),
)

COMMANDS: tuple[Command, ...] = (
    BUILD,
    Command(
        "builder",
        "Name build servers, and choose the one that builds: add, use, ls, rm, inspect.",
        "pybuild.commands.builder:main",
        (
            Option("use", "with add: builds go there from now on"),
            Option("force", "with add: replace a builder of that name", short="f"),
            *TLS,
            *GLOBAL,
        ),
        ("add NAME ADDR | use NAME|local | ls | rm NAME | inspect [NAME]", 1, 3),
        {"build": "build", "prune": "prune"},
    ),
    Command(
        "buildx",
        "Do any of these, as docker buildx spells them.",
        "",
        GLOBAL,
        ("VERB", 0, -1),
        {
            "build": "build",
            "du": "du",
            "imagetools": "imagetools",
            "inspect": "builder inspect",
            "ls": "builder ls",
            "prune": "prune",
            "rm": "builder rm",
            "use": "builder use",
        },
    ),
    Command(
        "completion",
        "Print the completion script of a shell: source <(pybuild completion bash).",
        "pybuild.commandline.completion:main",
        GLOBAL,
        ("bash|zsh|fish", 1, 1),
    ),
    Command(
        "daemon",
        "Serve builds to buildctl, docker buildx and other clients of BuildKit.",
        "pybuild.commands.daemon:main",
        (
            Option("addr", "address to listen on (unix://… or tcp://…)", "ADDR", "", True),
            Option(
                "allow-insecure-entitlement",
                "let clients grant network.host or security.insecure",
                "NAME",
                "",
                True,
                values=("network.host", "security.insecure"),
            ),
            CA,
            CACHE_MAX,
            Option("insecure", "listen on TCP without TLS"),
            RUNTIME,
            Option("tlscacert", "clients need a certificate of this authority", "FILE"),
            Option("tlscert", "certificate of the server", "FILE"),
            Option("tlskey", "its key", "FILE"),
            *GLOBAL,
        ),
        ("", 0, 0),
    ),
    Command(
        "doctor",
        "Show what this machine offers to steps, and how to mend what is missing.",
        "pybuild.commands.doctor:main",
        (FORMAT, *GLOBAL),
        ("", 0, 0),
    ),
    Command(
        "explain",
        "Say why steps of a build ran: the first input that differs from what was stored.",
        "pybuild.commands.explain:main",
        (
            Option("fail-on-miss", "exit with 1 if a step was not cached"),
            Option("format", "output format: text or json", "FORMAT", values=("text", "json")),
            Option("list", "list the builds that are known, the latest first"),
            *REMOTE,
            *GLOBAL,
        ),
        ("[BUILD] [STEP]", 0, 2),
    ),
    Command(
        "lint",
        "Show what is worth mending in a Dockerfile, and mend it.",
        "pybuild.commands.lint:main",
        (
            Option("fix", "mend what can be mended without a decision"),
            Option("build-arg", "set a build-time variable", "K[=V]", repeat=True),
            Option("format", "output format: text or json", "FORMAT", values=("text", "json")),
            *GLOBAL,
        ),
        ("[PATH]", 0, 1),
    ),
    Command(
        "verify",
        "Build again without any stored result, and show what differs: step, file, byte.",
        "pybuild.commands.verify:main",
        (
            *(option for option in BUILD.options if option.name in _VERIFIED),
            Option("format", "output format: text or json", "FORMAT", values=("text", "json")),
            *GLOBAL,
        ),
        ("PATH|URL", 1, 1),
    ),
)
