# Completion of pybuild for bash: source <(pybuild completion bash)

_pybuild_value() { # COMMAND OPTION: the values that it takes; nothing for a flag
    REPLY=
    case $1:$2 in
@values@
    esac
}

_pybuild_options() { # COMMAND
    REPLY=
    case $1 in
@options@
    esac
}

_pybuild_argument() { # COMMAND NUMBER
    REPLY=
    case $1:$2 in
@positions@
    esac
}

_pybuild_images() {
    local name tag rest
    "$1" images 2> /dev/null | while read -r name tag rest; do
        [[ $tag == TAG || $tag == '<none>' ]] || printf '%s\n' "$name:$tag"
    done
}

_pybuild() {
    local IFS=$' \t\n' REPLY word cur command= offer= front=
    local -i number=1
    local -a words
    local commands='@commands@'
    COMPREPLY=()
    # The line once more: bash has cut its words at "=" and ":", too.
    read -ra words <<< "${COMP_LINE:0:COMP_POINT}"
    [[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] && words+=('')
    cur=${words[-1]}
    unset 'words[-1]'
    for word in "${words[@]:1}"; do
        if [[ $offer ]]; then
            offer= # it was the value of an option
            continue
        fi
        case $word in
        --*=*) ;;
        -?*)
            _pybuild_value "${command:-build}" "$word"
            offer=$REPLY
            ;;
        *)
            if [[ -z $command && " $commands " == *" $word "* ]]; then
                command=$word
            else
                command=${command:-build}
                number+=1
                [[ $command == run ]] && break # what follows an image is the program's
            fi
            ;;
        esac
    done
    if [[ $offer ]]; then
        :
    elif [[ $command == run && $number -gt 1 ]]; then
        offer='!files'
    elif [[ $cur == --*=* ]]; then
        _pybuild_value "${command:-build}" "${cur%%=*}"
        offer=${REPLY:-true false}
        [[ $COMP_WORDBREAKS == *=* ]] || front=${cur%%=*}=
        cur=${cur#*=}
    elif [[ $cur == -* ]]; then
        _pybuild_options "${command:-build}"
        offer=$REPLY
    elif [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur")
        return # and directories, which bash offers where these are none
    else
        _pybuild_argument "$command" "$number"
        offer=$REPLY
    fi
    case $offer in
    '!files') return ;; # bash does that
    '!directories')
        compopt -o filenames 2> /dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        ;;
    '!images') mapfile -t COMPREPLY < <(compgen -W "$(_pybuild_images "${words[0]}")" -- "$cur") ;;
    '!nothing') ;;
    *) mapfile -t COMPREPLY < <(compgen -P "$front" -W "$offer" -- "$cur") ;;
    esac
    compopt +o default +o bashdefault 2> /dev/null
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        front=${cur%"${cur##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$front"}")
    fi
}

complete -o bashdefault -o default -F _pybuild pybuild
