function _jmp_completion
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in (env COMP_WORDS=(string join \n -- $words "$current" | string collect --no-trim-newlines) COMP_CWORD=(count $words) _JMP_COMPLETE=bash_complete $words[1] 2>/dev/null)
        switch $line
            case 'plain,*'
                string replace 'plain,' '' -- $line
            case 'file,*'
                __fish_complete_path "$current"
            case 'dir,*'
                __fish_complete_directories "$current"
        end
    end
end
complete --no-files --command jmp --arguments '(_jmp_completion)'
