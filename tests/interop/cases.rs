//! One test per pair of makes, mode and link.

/// Makes a test of each line: `run` gets both makes, the mode and the link.
macro_rules! cases {
    ($run:path; $($name:ident: $a:ident to $b:ident, $mode:ident over $link:ident;)*) => {$(
        #[test]
        fn $name() {
            use shardtrack_tests::peer::{Link, Make, Mode};
            shardtrack_tests::need_root!();
            $run(Make::$a, Make::$b, Mode::$mode, Link::$link);
        }
    )*};
}
