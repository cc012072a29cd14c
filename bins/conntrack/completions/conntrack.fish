# Completion of conntrack for fish.
complete -c conntrack -f
complete -c conntrack -l src -x -d 'source of the original direction'
complete -c conntrack -l dst -x -d 'destination of the original direction'
complete -c conntrack -l reply-src -x -d 'source of the reply direction'
complete -c conntrack -l reply-dst -x -d 'destination of the reply direction'
complete -c conntrack -l any-addr -x -d 'address of either end in either direction'
complete -c conntrack -l mask-src -x -d 'bits of the source that count'
complete -c conntrack -l mask-dst -x -d 'bits of the destination that count'
complete -c conntrack -l tuple-src -x -d 'source that is expected'
complete -c conntrack -l tuple-dst -x -d 'destination that is expected'
complete -c conntrack -l protonum -x -a 'tcp udp udplite sctp dccp icmp icmpv6 gre' -d 'layer 4 protocol, by name or number'
complete -c conntrack -l family -x -a 'ipv4 ipv6' -d 'ipv4 or ipv6'
complete -c conntrack -l timeout -x -d 'time until the entry expires'
complete -c conntrack -l timeout-below -x -d 'expires sooner'
complete -c conntrack -l timeout-above -x -d 'expires later'
complete -c conntrack -l bytes-above -x -d 'carried more octets, both directions together'
complete -c conntrack -l status -x -a 'ASSURED SEEN_REPLY UNREPLIED UNSET FIXED_TIMEOUT EXPECTED OFFLOAD HW_OFFLOAD' -d 'ASSURED, SEEN_REPLY, UNREPLIED, EXPECTED, OFFLOAD, ...'
complete -c conntrack -l mark -x -d 'mark'
complete -c conntrack -l secmark -x -d 'security mark'
complete -c conntrack -l id -x -d 'identifier'
complete -c conntrack -l zone -x -d 'zone'
complete -c conntrack -l orig-zone -x -d 'zone of the original direction only'
complete -c conntrack -l reply-zone -x -d 'zone of the reply direction only'
complete -c conntrack -l helper -x -d 'helper'
complete -c conntrack -l label -x -d 'has all of these labels'
complete -c conntrack -l label-add -x -d 'labels to set'
complete -c conntrack -l label-del -x -d 'labels to remove, or all'
complete -c conntrack -l label-bits -x -d 'labels to set, by their bits'
complete -c conntrack -l labelmap -r -F -d 'file with the names of labels'
complete -c conntrack -l src-nat -x -d 'translation of the source'
complete -c conntrack -l dst-nat -x -d 'translation of the destination'
complete -c conntrack -l any-nat -x -d 'either translation'
complete -c conntrack -l seqadj-orig -x -d 'sequence adjustment'
complete -c conntrack -l seqadj-reply -x -d 'the same of the reply direction'
complete -c conntrack -l master -x -d 'the flow that expects this one'
complete -c conntrack -l synproxy -x -d 'state of the SYN proxy'
complete -c conntrack -l filter-file -r -F -d 'matches one line of options in FILE at least'
complete -c conntrack -l zero -d 'zero the counters that are listed'
complete -c conntrack -l event-mask -x -a 'ALL NEW UPDATES DESTROY' -d 'ALL, NEW, UPDATES, DESTROY'
complete -c conntrack -l buffer-size -x -d 'room for events that wait'
complete -c conntrack -l snapshot -d 'list the table before the events'
complete -c conntrack -l sort -x -a 'bytes packets timeout source destination sport dport protocol state zone mark id age' -d 'bytes, packets, timeout, source, dport, ...; - for largest first'
complete -c conntrack -l limit -x -d 'show N lines at most'
complete -c conntrack -l count-by -x -a 'source destination port protocol state zone mark' -d 'source, destination, port, protocol, state, zone or mark'
complete -c conntrack -l output -x -a 'xml json save extended id timestamp ktimestamp labels' -d 'xml, json, save, extended, id, timestamp, ktimestamp, labels'
complete -c conntrack -l dump -d 'list the entries'
complete -c conntrack -l get -d 'show one entry'
complete -c conntrack -l create -d 'make an entry'
complete -c conntrack -l add -d 'make or change an entry'
complete -c conntrack -l update -d 'change entries'
complete -c conntrack -l delete -d 'remove entries'
complete -c conntrack -l event -d 'follow events'
complete -c conntrack -l flush -d 'empty the table'
complete -c conntrack -l counter -d 'count the entries'
complete -c conntrack -l stats -d 'show the counters'
complete -c conntrack -l version -d 'show the version'
complete -c conntrack -l help -d 'show the usage'
complete -c conntrack -n '__fish_prev_arg_in -L --dump -G --get -I --create -D --delete -E --event -F --flush -C --counter -S --stats' -a 'conntrack expect dying unconfirmed'
complete -c conntrack -l load-file -r -F -d 'load a file of commands'
complete -c conntrack -l nat-range -x -d 'ignored'
complete -c conntrack -l orig-src -x -d 'source of the original direction'
complete -c conntrack -l orig-dst -x -d 'destination of the original direction'
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- tcp (commandline -opc)' -l sport -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- tcp (commandline -opc)' -l dport -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- tcp (commandline -opc)' -l reply-port-src -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- tcp (commandline -opc)' -l reply-port-dst -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- tcp (commandline -opc)' -l state -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- udp (commandline -opc)' -l sport -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- udp (commandline -opc)' -l dport -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- udp (commandline -opc)' -l reply-port-src -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- udp (commandline -opc)' -l reply-port-dst -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- udplite (commandline -opc)' -l sport -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- udplite (commandline -opc)' -l dport -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- udplite (commandline -opc)' -l reply-port-src -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- udplite (commandline -opc)' -l reply-port-dst -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- sctp (commandline -opc)' -l sport -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- sctp (commandline -opc)' -l dport -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- sctp (commandline -opc)' -l reply-port-src -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- sctp (commandline -opc)' -l reply-port-dst -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- sctp (commandline -opc)' -l state -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- sctp (commandline -opc)' -l orig-vtag -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- sctp (commandline -opc)' -l reply-vtag -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- dccp (commandline -opc)' -l sport -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- dccp (commandline -opc)' -l dport -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- dccp (commandline -opc)' -l reply-port-src -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- dccp (commandline -opc)' -l reply-port-dst -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- dccp (commandline -opc)' -l state -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- dccp (commandline -opc)' -l role -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- icmp (commandline -opc)' -l icmp-type -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- icmp (commandline -opc)' -l icmp-code -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- icmp (commandline -opc)' -l icmp-id -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- icmpv6 (commandline -opc)' -l icmpv6-type -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- icmpv6 (commandline -opc)' -l icmpv6-code -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- icmpv6 (commandline -opc)' -l icmpv6-id -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- gre (commandline -opc)' -l srckey -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- gre (commandline -opc)' -l dstkey -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- gre (commandline -opc)' -l reply-key-src -x
complete -c conntrack -n '__fish_contains_opt -s p protonum; and contains -- gre (commandline -opc)' -l reply-key-dst -x
