"""Texts of completion scripts, but for the tables; braces of the shells are doubled."""

BASH = """\
# Completion of pybuild for bash: source <(pybuild completion bash)

_pybuild_value() {{ # COMMAND OPTION: the values that it takes; nothing for a flag
    REPLY=
    case $1:$2 in
{values}
    esac
}}

_pybuild_options() {{ # COMMAND
    REPLY=
    case $1 in
{options}
    esac
}}

_pybuild_argument() {{ # COMMAND NUMBER
    REPLY=
    case $1:$2 in
{positions}
    esac
}}

_pybuild_images() {{
    local name tag rest
    "$1" images 2> /dev/null | while read -r name tag rest; do
        [[ $tag == TAG || $tag == '<none>' ]] || printf '%s\\n' "$name:$tag"
    done
}}

_pybuild() {{
    local IFS=$' \\t\\n' REPLY word cur command= offer= front=
    local -i number=1
    local -a words
    local commands='{commands}'
    COMPREPLY=()
    # The line once more: bash has cut its words at "=" and ":", too.
    read -ra words <<< "${{COMP_LINE:0:COMP_POINT}}"
    [[ ${{COMP_LINE:0:COMP_POINT}} == *[[:space:]] ]] && words+=('')
    cur=${{words[-1]}}
    unset 'words[-1]'
    for word in "${{words[@]:1}}"; do
        if [[ $offer ]]; then
            offer= # it was the value of an option
            continue
        fi
        case $word in
        --*=*) ;;
        -?*)
            _pybuild_value "${{command:-build}}" "$word"
            offer=$REPLY
            ;;
        *)
            if [[ -z $command && " $commands " == *" $word "* ]]; then
                command=$word
            else
                command=${{command:-build}}
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
        _pybuild_value "${{command:-build}}" "${{cur%%=*}}"
        offer=${{REPLY:-true false}}
        [[ $COMP_WORDBREAKS == *=* ]] || front=${{cur%%=*}}=
        cur=${{cur#*=}}
    elif [[ $cur == -* ]]; then
        _pybuild_options "${{command:-build}}"
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
    '!images') mapfile -t COMPREPLY < <(compgen -W "$(_pybuild_images "${{words[0]}}")" -- "$cur") ;;
    '!nothing') ;;
    *) mapfile -t COMPREPLY < <(compgen -P "$front" -W "$offer" -- "$cur") ;;
    esac
    compopt +o default +o bashdefault 2> /dev/null
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        front=${{cur%"${{cur##*:}}"}}
        COMPREPLY=("${{COMPREPLY[@]#"$front"}}")
    fi
}}

complete -o bashdefault -o default -F _pybuild pybuild
"""

ZSH = """\
#compdef pybuild
# Completion of pybuild for zsh: pybuild completion zsh > "${{fpath[1]}}/_pybuild"

_pybuild_images() {{
    local name tag rest
    local -a names
    pybuild images 2> /dev/null | while read -r name tag rest; do
        [[ $tag == TAG || $tag == '<none>' ]] || names+=("$name:$tag")
    done
    compadd -a names
}}

_pybuild_begins() {{
    _describe -t commands command commands
    _files
}}

_pybuild() {{
    local command= word
    local -a commands specs
    local -i at
    commands=(
{commands}
    )
    for ((at = 2; at < CURRENT; at++)); do
        word=$words[at]
        if [[ -n ${{commands[(r)$word:*]}} ]]; then
            command=$word
            words[at]=()
            ((CURRENT--))
            break
        fi
    done
    case ${{command:-build}} in
{specs}
    esac
    if [[ -z $command ]]; then
        specs=(${{specs:#[0-9*]: :*}} '1: :_pybuild_begins')
    fi
    _arguments -s -S : $specs
}}

if [[ $funcstack[1] == _pybuild ]]; then
    _pybuild "$@"
else
    compdef _pybuild pybuild
fi
"""

FISH = """\
# Completion of pybuild for fish: pybuild completion fish > ~/.config/fish/completions/pybuild.fish

set -g __pybuild_commands {commands}

# By command, the options that take a value.
{valued}

function __pybuild_arguments # the words that are no options, the command first
    set -l words (commandline -opc)
    set -l valued __pybuild_valued_build
    set -l is_value no
    for word in $words[2..-1]
        if test $is_value = yes
            set is_value no
        else if string match -q -- '-*' $word
            contains -- $word $$valued; and set is_value yes
        else
            contains -- $word $__pybuild_commands; and set valued __pybuild_valued_(string replace - _ $word)
            echo $word
        end
    end
end

function __pybuild_begins
    set -l words (__pybuild_arguments)
    test (count $words) -eq 0
end

function __pybuild_is
    set -l words (__pybuild_arguments)
    if test (count $words) -gt 0; and contains -- $words[1] $__pybuild_commands
        test $words[1] = $argv[1]
    else
        test build = $argv[1]
    end
end

function __pybuild_at # NUMBER [more]
    set -l words (__pybuild_arguments)
    set -l count (count $words)
    if test $count -gt 0; and contains -- $words[1] $__pybuild_commands
        set count (math $count - 1)
    end
    set count (math $count + 1)
    test $count -eq $argv[1]; or test (count $argv) -gt 1 -a $count -gt $argv[1]
end

function __pybuild_images
    pybuild images 2> /dev/null | while read -l name tag rest
        contains -- $tag TAG '<none>'; or echo $name:$tag
    end
end

complete -c pybuild -f
{completions}
"""
