"""All rules, by name."""

from __future__ import annotations

from pybuild.frontend.lint import (
    baseimages,
    casing,
    commands,
    continuations,
    descriptions,
    ignoredfiles,
    keyvalues,
    maintainers,
    platforms,
    ports,
    stagenames,
    variables,
    workdirs,
)

RULES = {
    rule.name: rule
    for rule in (
        stagenames.STAGE_NAME_CASING,
        casing.FROM_AS_CASING,
        continuations.NO_EMPTY_CONTINUATION,
        casing.CONSISTENT_INSTRUCTION_CASING,
        stagenames.DUPLICATE_STAGE_NAME,
        stagenames.RESERVED_STAGE_NAME,
        commands.JSON_ARGS_RECOMMENDED,
        maintainers.MAINTAINER_DEPRECATED,
        baseimages.UNDEFINED_ARG_IN_FROM,
        workdirs.WORKDIR_RELATIVE_PATH,
        variables.UNDEFINED_VAR,
        commands.MULTIPLE_INSTRUCTIONS_DISALLOWED,
        keyvalues.LEGACY_KEY_VALUE_FORMAT,
        platforms.REDUNDANT_TARGET_PLATFORM,
        keyvalues.SECRETS_USED_IN_ARG_OR_ENV,
        baseimages.INVALID_DEFAULT_ARG_IN_FROM,
        platforms.FROM_PLATFORM_FLAG_CONST_DISALLOWED,
        ignoredfiles.COPY_IGNORED_FILE,
        descriptions.INVALID_DEFINITION_DESCRIPTION,
        ports.EXPOSE_PROTO_CASING,
        ports.EXPOSE_INVALID_FORMAT,
        baseimages.INVALID_BASE_IMAGE_PLATFORM,
    )
}
