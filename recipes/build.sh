#!/bin/sh
# Build an image from variables: what every recipe of this directory runs. POSIX, so that any CI image has what it needs.
#
# CONTEXT, FILE, TARGET, PLATFORMS: as the argument and the options of these names.
# TAGS, BUILD_ARGS, LABELS, SECRETS, OUTPUTS, ARGUMENTS: one a line.
# CACHE: where the cache is kept. PUSH: "true" pushes. REPORTS: a directory for files of failed steps and a JUnit file.
set -eu
PYBUILD=${PYBUILD:-pybuild}
set -- build

each() { # each OPTION LINES: an option for each line that is not empty
    option=$1
    rest=$2
    while [ -n "$rest" ]; do
        line=${rest%%"$newline"*}
        case $rest in
        *"$newline"*) rest=${rest#*"$newline"} ;;
        *) rest= ;;
        esac
        line=${line#"${line%%[! 	]*}"}
        [ -z "$line" ] || add "$option" "$line"
    done
}
quote() { printf '%s' "$1" | sed "s/'/'\\\\''/g"; }
add() { words="$words '$1$(quote "$2")'"; }
newline='
'
words=
each --tag= "${TAGS:-}"
each --build-arg= "${BUILD_ARGS:-}"
each --label= "${LABELS:-}"
each --secret= "${SECRETS:-}"
each --output= "${OUTPUTS:-}"
each '' "${ARGUMENTS:-}"
[ -z "${FILE:-}" ] || add --file= "$FILE"
[ -z "${TARGET:-}" ] || add --target= "$TARGET"
[ -z "${PLATFORMS:-}" ] || add --platform= "$PLATFORMS"
[ -z "${CACHE:-}" ] || add --cache= "$CACHE"
[ "${PUSH:-false}" != true ] || words="$words --push"
if [ -n "${REPORTS:-}" ]; then
    mkdir -p "$REPORTS"
    add --on-fail-output= "$REPORTS/failed"
    add --annotations=junit= "$REPORTS/pybuild-junit.xml"
    [ "${GITHUB_ACTIONS:-}" != true ] || words="$words --annotations=github"
    [ -z "${GITLAB_CI:-}" ] || add --annotations=gitlab= "$REPORTS/gl-code-quality-report.json"
fi
[ -z "${METADATA:-}" ] || add --metadata-file= "$METADATA"
eval "exec \"\$PYBUILD\" \"\$@\" $words -- '$(quote "${CONTEXT:-.}")'"
