#compdef j
# Completion of j for zsh: the devices of the running session.
_j_complete() {
    local -a answer described plain
    local kind value about
    answer=("${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) _J_COMPLETE=zsh_complete j 2>/dev/null)}")
    for kind value about in "${answer[@]}"; do
        case $kind in
            plain)
                if [[ $about == _ ]]; then
                    plain+=("$value")
                else
                    described+=("${value//:/\\:}:$about")
                fi
                ;;
            file) _path_files -f ;;
            dir) _path_files -/ ;;
        esac
    done
    (( ${#described} )) && _describe -V unsorted described -U
    (( ${#plain} )) && compadd -U -V unsorted -a plain
}
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
    _j_complete "$@"
else
    compdef _j_complete j
fi
