//! The words of the configuration language.

/// The words that the language keeps for itself, sorted by their bytes.
pub const RESERVED: [&str; 82] = [
    "ACKWindowSize",
    "Accept",
    "Address",
    "Backlog",
    "CLOSE",
    "CLOSED",
    "CLOSE_WAIT",
    "CacheTimeout",
    "Checksum",
    "CommitTimeout",
    "Default",
    "DisableExternalCache",
    "DisableInternalCache",
    "ESTABLISHED",
    "ErrorQueueLength",
    "EventIterationLimit",
    "ExpectMax",
    "ExpectTimeout",
    "ExpectationSync",
    "FIN_WAIT",
    "Filter",
    "From",
    "General",
    "Group",
    "HashLimit",
    "HashSize",
    "Helper",
    "IPv4_Destination_Address",
    "IPv4_address",
    "IPv4_interface",
    "IPv6_Destination_Address",
    "IPv6_address",
    "IPv6_interface",
    "Ignore",
    "Interface",
    "Kernelspace",
    "LAST_ACK",
    "LISTEN",
    "LockFile",
    "LogFile",
    "Mode",
    "Multicast",
    "NetlinkBufferSize",
    "NetlinkBufferSizeMaxGrowth",
    "NetlinkEventsReliable",
    "NetlinkOverrunResync",
    "Nice",
    "Options",
    "Path",
    "Policy",
    "PollSecs",
    "Port",
    "Priority",
    "Protocol",
    "PurgeTimeout",
    "QueueLen",
    "QueueNum",
    "RcvSocketBuffer",
    "RefreshTime",
    "ResendQueueSize",
    "SYN_RECV",
    "SYN_SENT",
    "Scheduler",
    "Setup",
    "SndSocketBuffer",
    "SocketBufferSize",
    "SocketBufferSizeMaxGrown",
    "SocketBufferSizeMaxGrowth",
    "StartupResync",
    "State",
    "Stats",
    "Sync",
    "Syslog",
    "Systemd",
    "TCP",
    "TCPWindowTracking",
    "TIME_WAIT",
    "Type",
    "UDP",
    "UNIX",
    "Userspace",
    "for",
];

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// One of the words that the language keeps for itself.
    Reserved,
    /// `on`, `yes`, `off` or `no` in any case.
    Bool(bool),
    /// Digits, read as the original reads them: into 32 bits, without a range check.
    Number(u32),
    /// Digits with a sign.
    Signed,
    /// What looks like an address, and up to four hexadecimal digits.
    Address,
    /// A slash and what follows.
    Path,
    /// A protocol mode.
    Mode(ModeName),
    /// Any other word.
    Word,
    /// Any other byte.
    Symbol(u8),
    /// The end of the file.
    End,
}

/// Names of protocol modes, with those of old releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeName {
    /// `alarm` or `persistenT`.
    Alarm,
    /// `ftfw` or `nack`.
    Ftfw,
    /// `notrack`.
    Notrack,
}

/// A place in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The octet in it, from 1.
    pub column: u32,
}

/// A piece of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub class: Class,
    /// As it stands in the file.
    pub text: &'a [u8],
    /// Where it begins.
    pub place: Place,
}

impl<'a> Token<'a> {
    /// Its text if it is a reserved word, else nothing.
    pub fn reserved(&self) -> &'a str {
        match self.class {
            Class::Reserved => std::str::from_utf8(self.text).unwrap_or_default(),
            _ => "",
        }
    }

    /// Its text; words and addresses are always ASCII.
    pub fn string(&self) -> String {
        String::from_utf8_lossy(self.text).into_owned()
    }
}

/// Whether the language keeps this word for itself.
pub fn is_reserved(text: &[u8]) -> bool {
    RESERVED.binary_search_by(|word| word.as_bytes().cmp(text)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reserved_word_is_found() {
        assert!(RESERVED.iter().all(|word| is_reserved(word.as_bytes())));
        assert!(!is_reserved(b"Lockfile"));
        assert!(!is_reserved(b""));
    }
}
