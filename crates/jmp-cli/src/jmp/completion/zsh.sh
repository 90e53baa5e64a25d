_jmp_completion() {
    local line
    local -a plain
    for line in "${(@f)$(env COMP_WORDS="${(F)words}" COMP_CWORD=$((CURRENT - 1)) _JMP_COMPLETE=bash_complete "${words[1]}" 2>/dev/null)}"; do
        case "$line" in
            file,*) _files ;;
            dir,*) _path_files -/ ;;
            plain,*) plain+=("${line#plain,}") ;;
        esac
    done
    (( $#plain )) && compadd -a plain
}
compdef _jmp_completion jmp
