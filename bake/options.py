"""The options of ``pybuild bake``; those of all commands are the command line's."""

from __future__ import annotations

from pybuild.model.options import Option

OPTIONS: tuple[Option, ...] = (
    Option(
        "affected",
        "instead of building: name the targets that a change since they were built here reaches",
    ),
    Option(
        "allow",
        "grant what targets ask for: network.host, security.insecure, ssh, "
        "fs[.read|.write]=PATH, device[=NAME], buildx.local.delete",
        "RIGHT",
        repeat=True,
    ),
    Option(
        "file",
        "file of the definition (default: compose.yaml, docker-bake.json, docker-bake.hcl, …)",
        "FILE",
        "f",
        True,
    ),
    Option(
        "graph",
        "instead of building: draw which targets read others: mermaid or dot",
        "FORM",
        values=("mermaid", "dot"),
    ),
    Option(
        "list",
        "instead of building: list targets or variables[,format=json]",
        "WHAT",
        values=("targets", "variables"),
    ),
    Option("load", "shorthand for --set=*.output=type=docker, where nothing else is said"),
    Option("max-age", "run steps again whose stored results are older", "AGE"),
    Option("metadata-file", "write metadata of the results, by target, to a file", "FILE"),
    Option("no-background", "wait for the disk: no process of ours outlives the build"),
    Option("no-cache", "do not use stored results"),
    Option(
        "on-fail-output",
        "copy files of a step that fails into a directory, below its target's name",
        "DIR",
    ),
    Option("print", "print the targets with all that is set, as JSON, instead of building"),
    Option(
        "provenance", "shorthand for --set=*.attest=type=provenance: true, false or options", "SPEC"
    ),
    Option("pull", "ask registries for base images"),
    Option("push", "shorthand for --set=*.output=type=registry, where nothing else is said"),
    Option(
        "sbom", "shorthand for --set=*.attest=type=sbom: true, false or generator=IMAGE", "SPEC"
    ),
    Option("set", "set a value of targets: PATTERN.KEY=VALUE, or += for lists", "SPEC", "", True),
    Option(
        "since",
        "build only targets that a change in git since a revision reaches, uncommitted ones too",
        "REV",
    ),
    Option("var", "set a variable of the definition", "NAME=VALUE", "", True),
)
