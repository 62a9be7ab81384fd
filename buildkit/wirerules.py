"""The build checks as BuildKit's clients know them: the words and addresses that they compare.

Part of the protocol, like the messages of errors: tools and BuildKit's own tests match on them. Our
own reasons stand in the rules themselves and in ``frontend/lint/pages/``.
"""

from __future__ import annotations

from dataclasses import replace

from pybuild.model.events import BuildWarning

_DOCS = "https://docs.docker.com/go/dockerfile/rule/"
_UNLINKED = frozenset(("InvalidBaseImagePlatform",))
_DESCRIPTIONS = {
    "StageNameCasing": "Stage names should be lowercase",
    "FromAsCasing": "The 'as' keyword should match the case of the 'from' keyword",
    "NoEmptyContinuation": "Empty continuation lines will become errors in a future release",
    "ConsistentInstructionCasing": (
        "All commands within the Dockerfile should use the same casing (either upper or lower)"
    ),
    "DuplicateStageName": "Stage names should be unique",
    "ReservedStageName": "Reserved words should not be used as stage names",
    "JSONArgsRecommended": (
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related "
        "to OS signals"
    ),
    "MaintainerDeprecated": (
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
    ),
    "UndefinedArgInFrom": "FROM command must use declared ARGs",
    "WorkdirRelativePath": (
        "Relative workdir without an absolute workdir declared within the build can have "
        "unexpected results if the base image changes"
    ),
    "UndefinedVar": "Variables should be defined before their use",
    "MultipleInstructionsDisallowed": (
        "Multiple instructions of the same type should not be used in the same stage"
    ),
    "LegacyKeyValueFormat": "Legacy key/value format with whitespace separator should not be used",
    "InvalidBaseImagePlatform": "Base image platform does not match expected target platform",
    "RedundantTargetPlatform": (
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the "
        "default behavior"
    ),
    "SecretsUsedInArgOrEnv": "Sensitive data should not be used in the ARG or ENV commands",
    "InvalidDefaultArgInFrom": (
        "Default value for global ARG results in an empty or invalid base image name"
    ),
    "FromPlatformFlagConstDisallowed": "FROM --platform flag should not use a constant value",
    "CopyIgnoredFile": "Attempting to Copy file that is excluded by .dockerignore",
    "InvalidDefinitionDescription": (
        "Comment for build stage or argument should follow the format: `# <arg/stage name> "
        "<description>`. If this is not intended to be a description comment, add an empty "
        "line or comment between the instruction and the comment."
    ),
    "ExposeProtoCasing": "Protocol in EXPOSE instruction should be lowercase",
    "ExposeInvalidFormat": (
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will "
        "become an error in a future release"
    ),
}


def in_protocol_words(warning: BuildWarning) -> BuildWarning:
    """Return *warning* in the protocol's words."""
    if warning.rule not in _DESCRIPTIONS:
        return warning
    url = "" if warning.rule in _UNLINKED else f"{_DOCS}{_dashed(warning.rule)}/"
    return replace(warning, detail=(_DESCRIPTIONS[warning.rule],), url=url)


def _dashed(name: str) -> str:
    """``JSONArgsRecommended`` is ``json-args-recommended``."""
    out = ""
    for at, char in enumerate(name):
        after = name[at + 1 : at + 2]
        starts = char.isupper() and at > 0 and (name[at - 1].islower() or after.islower())
        out += ("-" if starts else "") + char.lower()
    return out
