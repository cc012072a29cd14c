//! Tokens of ring operations: what a completion belongs to.

use io::CHANNEL_TOKENS;

/// What a completion belongs to. A number, where there is one, is below 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The event intake.
    Intake,
    /// Answers on a request socket, by the number of its lane.
    Kernel(u32),
    /// Requests sent on a request socket.
    KernelSent(u32),
    /// The dump socket.
    Dump,
    /// The request for a dump was sent.
    DumpSent,
    /// A wake-up from another thread.
    Wake,
    /// Signals.
    Signal,
    /// New control clients.
    Accept,
    /// A control client's request.
    Client(u32),
    /// An answer to a control client was sent.
    ClientSent(u32),
    /// A link to the peer.
    Link(u32),
    /// News of network devices.
    Devices,
}

impl Token {
    /// The number for the ring; with [`Token::Link`] the first of the channel's.
    pub(super) const fn raw(self) -> u64 {
        let (kind, n): (u64, u32) = match self {
            Self::Intake => (1, 0),
            Self::Kernel(n) => (2, n),
            Self::KernelSent(n) => (3, n),
            Self::Dump => (4, 0),
            Self::DumpSent => (5, 0),
            Self::Wake => (6, 0),
            Self::Signal => (7, 0),
            Self::Accept => (8, 0),
            Self::Client(n) => (9, n),
            Self::ClientSent(n) => (10, n),
            Self::Link(n) => (11, n * CHANNEL_TOKENS as u32),
            Self::Devices => (12, 0),
        };
        kind << 32 | n as u64
    }

    /// What a number from the ring stands for.
    pub(super) const fn from_raw(raw: u64) -> Option<Self> {
        let n = raw as u32;
        Some(match raw >> 32 {
            1 => Self::Intake,
            2 => Self::Kernel(n),
            3 => Self::KernelSent(n),
            4 => Self::Dump,
            5 => Self::DumpSent,
            6 => Self::Wake,
            7 => Self::Signal,
            8 => Self::Accept,
            9 => Self::Client(n),
            10 => Self::ClientSent(n),
            11 => Self::Link(n / CHANNEL_TOKENS as u32),
            12 => Self::Devices,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn tokens_survive_the_ring() {
        for raw in (1..=12u64).map(|kind| kind << 32 | 32) {
            let token = Token::from_raw(raw).unwrap();
            assert_eq!(Token::from_raw(token.raw()), Some(token));
        }
        assert_eq!(Token::from_raw(Token::Link(3).raw() + 15), Some(Token::Link(3)));
        assert_eq!(Token::from_raw(0), None);
    }
}
