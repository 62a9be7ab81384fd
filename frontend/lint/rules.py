"""The rules by name, with the text each one prints [LNT-1..22]."""

from __future__ import annotations

from enum import StrEnum

_MESSAGES = {
    "StageNameCasing": "Stage name '{0}' should be lowercase",
    "FromAsCasing": "'{0}' and '{1}' keywords' casing do not match",
    "NoEmptyContinuation": "Empty continuation line",
    "ConsistentInstructionCasing": (
        "Command '{0}' should match the case of the command majority ({1})"
    ),
    "DuplicateStageName": 'Duplicate stage name "{0}", stage names should be unique',
    "ReservedStageName": 'Stage name should not use the same name as reserved stage "{0}"',
    "JSONArgsRecommended": (
        "JSON arguments recommended for {0} to prevent unintended behavior related to OS signals"
    ),
    "MaintainerDeprecated": "Maintainer instruction is deprecated in favor of using label",
    "UndefinedArgInFrom": "FROM argument '{0}' is not declared{1}",
    "WorkdirRelativePath": (
        'Relative workdir "{0}" can have unexpected results if the base image changes'
    ),
    "UndefinedVar": "Usage of undefined variable '${0}'{1}",
    "MultipleInstructionsDisallowed": (
        "Multiple {0} instructions should not be used in the same stage because only the last one"
        " will be used"
    ),
    "LegacyKeyValueFormat": (
        '"{0} key=value" should be used instead of legacy "{0} key value" format'
    ),
    "RedundantTargetPlatform": (
        "Setting platform to predefined {0} in FROM is redundant as this is the default behavior"
    ),
    "SecretsUsedInArgOrEnv": ('Do not use ARG or ENV instructions for sensitive data ({0} "{1}")'),
    "InvalidDefaultArgInFrom": (
        "Default value for ARG {0} results in empty or invalid base image name"
    ),
    "FromPlatformFlagConstDisallowed": ('FROM --platform flag should not use constant value "{0}"'),
    "CopyIgnoredFile": 'Attempting to {0} file "{1}" that is excluded by .dockerignore',
    "ExposeProtoCasing": "Defined protocol '{0}' in EXPOSE instruction should be lowercase",
    "ExposeInvalidFormat": (
        "EXPOSE instruction should not define an IP address or host-port mapping, found '{0}'"
    ),
    "InvalidBaseImagePlatform": (
        'Base image {0} was pulled with platform "{1}", expected "{2}" for current build'
    ),
}


class Rule(StrEnum):
    """A build check; the value is the name that ``# check=skip=…`` takes."""

    STAGE_NAME_CASING = "StageNameCasing"
    FROM_AS_CASING = "FromAsCasing"
    NO_EMPTY_CONTINUATION = "NoEmptyContinuation"
    CONSISTENT_INSTRUCTION_CASING = "ConsistentInstructionCasing"
    DUPLICATE_STAGE_NAME = "DuplicateStageName"
    RESERVED_STAGE_NAME = "ReservedStageName"
    JSON_ARGS_RECOMMENDED = "JSONArgsRecommended"
    MAINTAINER_DEPRECATED = "MaintainerDeprecated"
    UNDEFINED_ARG_IN_FROM = "UndefinedArgInFrom"
    WORKDIR_RELATIVE_PATH = "WorkdirRelativePath"
    UNDEFINED_VAR = "UndefinedVar"
    MULTIPLE_INSTRUCTIONS = "MultipleInstructionsDisallowed"
    LEGACY_KEY_VALUE = "LegacyKeyValueFormat"
    REDUNDANT_TARGET_PLATFORM = "RedundantTargetPlatform"
    SECRETS_IN_ARG_OR_ENV = "SecretsUsedInArgOrEnv"
    INVALID_DEFAULT_ARG = "InvalidDefaultArgInFrom"
    CONSTANT_PLATFORM = "FromPlatformFlagConstDisallowed"
    COPY_IGNORED_FILE = "CopyIgnoredFile"
    EXPOSE_PROTO_CASING = "ExposeProtoCasing"
    EXPOSE_INVALID_FORMAT = "ExposeInvalidFormat"
    INVALID_BASE_IMAGE_PLATFORM = "InvalidBaseImagePlatform"

    def message(self, *values: str) -> str:
        """Return the text for these values."""
        return _MESSAGES[self.value].format(*values)
