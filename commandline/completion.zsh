#compdef pybuild
# Completion of pybuild for zsh: pybuild completion zsh > "${fpath[1]}/_pybuild"

_pybuild_images() {
    local name tag rest
    local -a names
    pybuild images 2> /dev/null | while read -r name tag rest; do
        [[ $tag == TAG || $tag == '<none>' ]] || names+=("$name:$tag")
    done
    compadd -a names
}

_pybuild_begins() {
    _describe -t commands command commands
    _files
}

_pybuild() {
    local command= word
    local -a commands specs
    local -i at
    commands=(
@commands@
    )
    for ((at = 2; at < CURRENT; at++)); do
        word=$words[at]
        if [[ -n ${commands[(r)$word:*]} ]]; then
            command=$word
            words[at]=()
            ((CURRENT--))
            break
        fi
    done
    case ${command:-build} in
@specs@
    esac
    if [[ -z $command ]]; then
        specs=(${specs:#[0-9*]: :*} '1: :_pybuild_begins')
    fi
    _arguments -s -S : $specs
}

if [[ $funcstack[1] == _pybuild ]]; then
    _pybuild "$@"
else
    compdef _pybuild pybuild
fi
