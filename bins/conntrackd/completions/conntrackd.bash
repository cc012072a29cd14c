# Completion of conntrackd for bash.
_conntrackd() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words
    case $prev in
        -C) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -c|-F|-R|-i|-e) words="ct expect" ;;
        -o) words="json" ;;
        -f) words="internal external" ;;
        -s) words="network cache runtime link rsqueue queue process ct expect engine json" ;;
    esac
    if [[ -z $words || $cur == -* ]]; then
        words="-d -C --check -v -h -c -f -F -i -e -x -o -s -R -n -B -t -k"
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _conntrackd conntrackd
