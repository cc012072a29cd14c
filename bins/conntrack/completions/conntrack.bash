# Completion of conntrack for bash.
_conntrack() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words i
    case $prev in
        -L|-G|-I|-D|-E|-F|-C|-S|--dump|--get|--create|--delete|--event|--flush|--counter|--stats)
            words="conntrack expect dying unconfirmed" ;;
        -p|--protonum) words="tcp udp udplite sctp dccp icmp icmpv6 gre" ;;
        -f|--family) words="ipv4 ipv6" ;;
        -o|--output) words="xml json save extended id timestamp ktimestamp labels" ;;
        -e|--event-mask) words="ALL NEW UPDATES DESTROY" ;;
        -u|--status) words="ASSURED SEEN_REPLY UNREPLIED UNSET FIXED_TIMEOUT EXPECTED OFFLOAD HW_OFFLOAD" ;;
        --count-by) words="source destination port protocol state zone mark" ;;
        --sort) words="bytes packets timeout source destination sport dport protocol state zone mark id age" ;;
        -R|--load-file|--filter-file|-M|--labelmap)
            COMPREPLY=($(compgen -f -- "$cur")); return ;;
    esac
    if [[ -z $words || $cur == -* ]]; then
        words="--dump --get --create --add --update --delete --event --flush --counter --stats --version --help --load-file --src --dst --reply-src --reply-dst --any-addr --mask-src --mask-dst --tuple-src --tuple-dst --protonum --family --timeout --timeout-below --timeout-above --bytes-above --status --mark --secmark --id --zone --orig-zone --reply-zone --helper --label --label-add --label-del --label-bits --labelmap --src-nat --dst-nat --any-nat --seqadj-orig --seqadj-reply --synproxy --master --filter-file --zero --event-mask --buffer-size --snapshot --sort --limit --count-by --output --nat-range --orig-src --orig-dst"
        for ((i = 1; i < COMP_CWORD; i++)); do
            case ${COMP_WORDS[i-1]} in -p|--protonum) case ${COMP_WORDS[i]} in
                tcp) words+=" --sport --dport --reply-port-src --reply-port-dst --state" ;;
                udp) words+=" --sport --dport --reply-port-src --reply-port-dst" ;;
                udplite) words+=" --sport --dport --reply-port-src --reply-port-dst" ;;
                sctp) words+=" --sport --dport --reply-port-src --reply-port-dst --state --orig-vtag --reply-vtag" ;;
                dccp) words+=" --sport --dport --reply-port-src --reply-port-dst --state --role" ;;
                icmp) words+=" --icmp-type --icmp-code --icmp-id" ;;
                icmpv6) words+=" --icmpv6-type --icmpv6-code --icmpv6-id" ;;
                gre) words+=" --srckey --dstkey --reply-key-src --reply-key-dst" ;;
            esac ;; esac
        done
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _conntrack conntrack
