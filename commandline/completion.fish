# Completion of pybuild for fish: pybuild completion fish > ~/.config/fish/completions/pybuild.fish

set -g __pybuild_commands @commands@

# By command, the options that take a value.
@valued@

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
@completions@
