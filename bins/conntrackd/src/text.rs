//! What `-h` and `-v` print.

/// The version, the same for all programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `-v` prints.
pub fn version() -> String {
    format!(
        "Connection tracking userspace daemon v{VERSION}. Licensed under MIT OR Apache-2.0.\n\
         Part of shardtrack, stateful failover for Linux firewalls.\n"
    )
}

/// What `-h` prints, with the name that the program was called by.
pub fn usage(program: &str) -> String {
    format!(
        "Connection tracking userspace daemon v{VERSION}\n\
         Usage: {program} [commands] [options]\n\
         {COMMANDS}"
    )
}

const COMMANDS: &str = "
shardtrack's daemon that keeps the connections of firewalls alive over a failover.
Without a command it runs in the foreground.

General commands:
  -d, run in the background
  -C [configfile], read this file instead of /etc/conntrackd/conntrackd.conf
  --check, say what is wrong with the configuration and what to do; start nothing
      (exit status: 0 nothing, or only notes; 1 errors; 2 warnings, but no errors)
  -v, print the version
  -h, print this help

Commands to a running daemon:
  -c [ct|expect], create what the peer reported in the kernel
  -f [internal|external], empty the caches
  -F [ct|expect], empty the kernel's tables, except what the filter leaves out
  -i [ct|expect], print what this node's kernel reported
  -e [ct|expect], print what the peer reported
  -x, print as XML (after -i or -e)
  -o json, print as JSON, a line per object (after -i or -e)
  -s [network|cache|runtime|link|rsqueue|queue|process|ct|expect|engine|json], print figures
  -R [ct|expect], read the kernel's tables again
  -n, ask the peer for everything it has
  -B, send everything to the peer
  -t, empty the kernel's table after PurgeTimeout seconds
  -k, stop the daemon

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_have_the_form_that_scripts_look_for() {
        let usage = usage("conntrackd");
        assert!(usage.starts_with(&format!("Connection tracking userspace daemon v{VERSION}\n")));
        assert_eq!(usage.lines().nth(1), Some("Usage: conntrackd [commands] [options]"));
        assert!(usage.contains("exit status: 0 nothing, or only notes; 1 errors; 2 warnings"));
        assert!(version().starts_with("Connection tracking userspace daemon v2"));
    }
}
