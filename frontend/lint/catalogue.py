"""All rules, by name."""

from __future__ import annotations

from pybuild.frontend.lint import stages, steps, writing

RULES = {
    rule.name: rule
    for rule in (
        stages.STAGE_NAME_CASING,
        writing.FROM_AS_CASING,
        writing.NO_EMPTY_CONTINUATION,
        writing.CONSISTENT_INSTRUCTION_CASING,
        stages.DUPLICATE_STAGE_NAME,
        stages.RESERVED_STAGE_NAME,
        steps.JSON_ARGS_RECOMMENDED,
        writing.MAINTAINER_DEPRECATED,
        stages.UNDEFINED_ARG_IN_FROM,
        steps.WORKDIR_RELATIVE_PATH,
        steps.UNDEFINED_VAR,
        steps.MULTIPLE_INSTRUCTIONS_DISALLOWED,
        steps.LEGACY_KEY_VALUE_FORMAT,
        stages.REDUNDANT_TARGET_PLATFORM,
        steps.SECRETS_USED_IN_ARG_OR_ENV,
        stages.INVALID_DEFAULT_ARG_IN_FROM,
        stages.FROM_PLATFORM_FLAG_CONST_DISALLOWED,
        steps.COPY_IGNORED_FILE,
        writing.INVALID_DEFINITION_DESCRIPTION,
        steps.EXPOSE_PROTO_CASING,
        steps.EXPOSE_INVALID_FORMAT,
        stages.INVALID_BASE_IMAGE_PLATFORM,
    )
}
