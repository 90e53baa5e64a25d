# Completion of j for bash 4.4 and later: the devices of the running session.
_j_complete() {
    local answer kind value IFS=$'\n'
    answer=$(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _J_COMPLETE=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    for answer in $answer; do
        kind=${answer%%,*}
        value=${answer#*,}
        case $kind in
            file) compopt -o default; COMPREPLY=() ;;
            dir) compopt -o dirnames; COMPREPLY=() ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}
complete -o nosort -F _j_complete j
