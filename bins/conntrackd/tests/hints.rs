//! What is said below a syntax error.

use conntrackd::conf;
use conntrackd::conf::environment::Machine;

/// The place of the error that ends the reading of a file, and the line below it.
fn hint(text: &str) -> (u32, u32, String) {
    let reading = conf::read(text.as_bytes(), &Machine);
    let last = reading.diagnostics.last().expect("an error");
    assert!(reading.settings.is_none(), "{text}");
    (last.place.line, last.place.column, last.hint.clone().unwrap_or_default())
}

#[test]
fn a_misspelt_word_gets_the_nearest_that_can_stand_there() {
    let cases = [
        ("General {\n\tLockfile /x\n}", (2, 2, "did you mean `LockFile'?")),
        ("general {\n}", (1, 1, "did you mean `General'?")),
        ("Sync {\n Mode FTWF { } }", (2, 7, "did you mean `FTFW'?")),
        (
            "Sync {\n UDP {\n  IPv4_Destionation_Address 10.0.0.2 } }",
            (3, 3, "did you mean `IPv4_Destination_Address'?"),
        ),
        ("Engine { Shard 2 }", (1, 10, "did you mean `Shards'?")),
        ("General { Filter { State Accept { ESTABLISH for TCP } } }", {
            (1, 35, "did you mean `ESTABLISHED'?")
        }),
        ("General { Frobnicate on }", (1, 11, "the nearest word that can stand here is `")),
        ("General { Filter From Kernel { } }", (1, 23, "did you mean `Kernelspace'?")),
    ];
    for (text, (line, column, begin)) in cases {
        let told = hint(text);
        assert_eq!((told.0, told.1), (line, column), "{text}: {told:?}");
        assert!(told.2.starts_with(begin), "{text}: {told:?}");
    }
}

#[test]
fn other_slips_are_explained() {
    let cases = [
        ("Sync { HashSize 1 }", "`HashSize' stands in `General'"),
        ("Sync { Mode FTFW { RefreshTime 1 } }", "`RefreshTime' stands in `Sync' or `ALARM'"),
        ("General { HashSize many }", "a number is wanted after `HashSize'"),
        ("General { LogFile log }", "an absolute path, on or off is wanted after `LogFile'"),
        ("Sync { UDP { Interface d0 } }", "`d0' is read as an address, as every word of one to"),
        ("Sync { UDP { Interface 10.0.0.1 } }", "a word is wanted after `Interface'"),
        ("General { Nice 5 }", "a number with its sign is wanted after `Nice'"),
        ("General\nHashSize 1", "`{' is wanted after `General'"),
        (
            "Sync {\n UDP { Interface eth0",
            "a `}' is missing: the block `UDP' of line 2 is still open",
        ),
        ("General { } }", "there is one `}' too many"),
        ("\u{feff}General { }", "octets outside of ASCII may stand in comments only"),
        ("Sync { CacheWriteThrough on }", "`CacheWriteThrough' is of an old release; today it is"),
        ("General { StripNAT on }", "`StripNAT' is of an old release and has no successor"),
    ];
    for (text, begin) in cases {
        let told = hint(text);
        assert!(told.2.starts_with(begin), "{text}: {told:?}");
    }
}
