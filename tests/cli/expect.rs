//! Expectations over IPv6, which no recorded case has: ours and the original say the same.

use serde_json::{Value, json};
use shardtrack_tests::need_root;

use crate::script::Bench;

const MAKE: &str = "-p udp -s 2001:db8::1 -d 2001:db8::2 --sport 4000 --dport 69 \
    --tuple-src 2001:db8::1/48 --tuple-dst 2001:db8::2 --tuple-port-src 5 --tuple-port-dst 6 \
    --mask-dst ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --mask-port-src 0 --mask-port-dst 65535 -t 900";
const KEY: &str = "-p udp -s 2001:db8::1 -d 2001:db8::2 --sport 5 --dport 6 --reply-port-src 1 --reply-port-dst 2";

/// What the lines print, by a program whose name is put for `$X`, after the flow that expects is made.
fn printed(bench: &Bench, program: &str, lines: &str) -> String {
    let setup = format!(
        "{} -I -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 4000 --dport 69 -t 900 --helper tftp",
        bench.program_path()
    );
    let script = format!(
        "( {lines} ) 2>&1 | sed -E 's/^(.*v)[0-9.]+ \\(/\\1X (/; s/[0-9]+ proto/T proto/; \
         s/<timeout>[0-9]+/<timeout>T/; s/^\\[[0-9. ]+\\]/[time]/'"
    );
    // Whoever follows events listens.
    let heard = "until awk '$2 == 12 && $4 !~ /^0*$/ { f = 1 } END { exit !f }' /proc/net/netlink; \
                 do sleep 0.02; done";
    let script = script.replace("$HEARD", heard);
    let script = script.replace("$MAKE", MAKE).replace("$KEY", KEY).replace("$X", program);
    bench.run(&json!({ "setup": [setup], "argv": ["-V"], "after": [script] })).after
}

#[test]
fn those_of_ipv6_are_told_as_by_the_original() {
    need_root!();
    let bench = Bench::new();
    for lines in [
        "$X -I expect $MAKE; $X -I expect $MAKE; $X -L expect; $X -L expect -f ipv6; $X -C expect",
        "$X -I expect $MAKE; $X -L expect -f ipv6 -o xml; $X -L expect -f ipv6 -o save,; echo $?",
        "$X -I expect $MAKE; $X -L expect -f ipv6 -o extended,id,timestamp; $X -L expect -f ipv6 -o save",
        "$X -I expect $MAKE; $X -G expect $KEY; $X -F expect; $X -G expect $KEY; echo $?",
        "$X -I expect $MAKE; $X -L expect -f ipv6; $X -D expect $KEY 2>/dev/null; $X -L expect -f ipv6",
        "timeout -s INT 2 $X -E expect -o timestamp & $HEARD; $X -I expect $MAKE; $X -F expect 2>/dev/null; wait",
        "timeout -s TERM 2 $X -E expect -o xml & $HEARD; $X -I expect $MAKE; $X -D expect $KEY \
         >/dev/null 2>&1; wait",
    ] {
        let theirs = printed(&bench, "$CT", lines);
        assert!(theirs.contains("2001:db8::2"), "{lines}: {theirs}");
        assert_eq!(printed(&bench, &bench.program_path(), lines), theirs, "{lines}");
    }
}

#[test]
fn those_of_ipv6_are_told_as_json() {
    need_root!();
    let bench = Bench::new();
    let lines = "$X -I expect $MAKE; $X -L expect -f ipv6 -o json 2>/dev/null; $X -G expect $KEY -o json; \
                 $X -D expect $KEY -o json 2>/dev/null; $X -L expect -f ipv6 -o json";
    let text = printed(&bench, &bench.program_path(), lines);
    let mut lines = text.lines();
    for _ in 0..3 {
        let object: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        assert_eq!(object["family"], "ipv6", "{text}");
        assert_eq!(object["mask_src"], "ffff:ffff:ffff::", "{text}");
        assert_eq!(object["master_dport"], 69, "{text}");
    }
    assert!(lines.next().unwrap().ends_with(" 0 expectations have been shown."), "{text}");
}
