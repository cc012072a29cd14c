//! What each record knows of itself: the state of its object, the list it is in, its last sending.

use crate::slab::{FreeLink, NIL};

/// The kind of message that tells a peer about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Never updated since it was created.
    New,
    /// Updated at least once.
    Update,
    /// Destroyed.
    Delete,
}

/// Where an object is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Created and not updated since.
    New,
    /// Updated at least once.
    Alive,
    /// Destroyed, kept until the peer knows.
    Dead,
}

/// State bits of [`Head::flags`].
pub(super) const STATE: u8 = 0b11;
pub(super) const ALIVE: u8 = 1;
pub(super) const DEAD: u8 = 2;
/// In the list of what is to be sent.
pub(super) const QUEUED: u8 = 1 << 2;
/// In a list of [`Waiting`].
pub(super) const WAITING: u8 = 1 << 3;
/// Created by an event and not sent since, so that no peer can know of it. It is told as NEW even if
/// it changed since: a peer may have one of this key for its own, and that is none to be updated.
pub(super) const FRESH: u8 = 1 << 4;
/// Begun in the place of another object of its key, or found when it was there already, and not
/// acknowledged since: a peer may have the other one. It is told as NEW, which a peer does not mix
/// with what it has.
pub(super) const ANEW: u8 = 1 << 5;
/// Dead, and in the list of those that nobody waits for.
pub(super) const PARKED: u8 = 1 << 6;
/// Created, or shown again while the table is read, by an update, which tells less than there is.
pub(super) const PARTIAL: u8 = 1 << 7;

/// What every tracked record begins its bookkeeping with.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Head {
    pub(super) prev: u32,
    pub(super) next: u32,
    /// Number of the last sending.
    pub(super) pos: u32,
    /// Hash of the key.
    pub(crate) hash: u32,
    pub(super) flags: u8,
    /// Octets that alignment leaves over; the record's own.
    pub(crate) aux: [u8; 3],
}

impl Head {
    /// The head of a new object. `fresh`: no peer can know of it yet.
    pub(crate) const fn new(hash: u32, fresh: bool) -> Self {
        let flags = if fresh { FRESH } else { ANEW };
        Self { prev: NIL, next: NIL, pos: 0, hash, flags, aux: [0; 3] }
    }

    pub(crate) const fn state(&self) -> State {
        match self.flags & STATE {
            DEAD => State::Dead,
            ALIVE => State::Alive,
            _ => State::New,
        }
    }

    pub(super) const fn is_dead(&self) -> bool {
        self.flags & STATE == DEAD
    }

    pub(crate) const fn is_queued(&self) -> bool {
        self.flags & QUEUED != 0
    }

    pub(crate) const fn is_waiting(&self) -> bool {
        self.flags & WAITING != 0
    }

    /// Number of the last sending; 0 if there was none. In mode ALARM, the place in the wheel.
    pub(crate) const fn pos(&self) -> u32 {
        self.pos
    }
}

/// A record with a [`Head`].
pub(crate) trait Record: FreeLink {
    fn head(&self) -> &Head;
    fn head_mut(&mut self) -> &mut Head;
}
