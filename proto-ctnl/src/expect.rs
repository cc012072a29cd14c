//! The owned model of an expectation: a flow that a helper foresees.

use crate::name::Name;
use crate::tuple::Tuple;

/// Which members of an [`Expect`] hold a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectPresent(pub u16);

impl ExpectPresent {
    /// [`Expect::master`].
    pub const MASTER: Self = Self(1 << 0);
    /// [`Expect::tuple`].
    pub const TUPLE: Self = Self(1 << 1);
    /// [`Expect::mask`].
    pub const MASK: Self = Self(1 << 2);
    /// [`Expect::timeout`].
    pub const TIMEOUT: Self = Self(1 << 3);
    /// [`Expect::id`].
    pub const ID: Self = Self(1 << 4);
    /// [`Expect::helper`].
    pub const HELPER: Self = Self(1 << 5);
    /// [`Expect::zone`].
    pub const ZONE: Self = Self(1 << 6);
    /// [`Expect::flags`].
    pub const FLAGS: Self = Self(1 << 7);
    /// [`Expect::class`].
    pub const CLASS: Self = Self(1 << 8);
    /// [`Expect::nat_dir`] and [`Expect::nat`].
    pub const NAT: Self = Self(1 << 9);
    /// [`Expect::function`].
    pub const FUNCTION: Self = Self(1 << 10);

    /// Whether every member of `other` is present.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds the members of `other`.
    pub const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Takes the members of `other` away.
    pub const fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

/// An expectation (`CTA_EXPECT_*`), as far as [`ExpectPresent`] says that it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// What is known.
    pub present: ExpectPresent,
    /// Original tuple of the flow whose helper expects.
    pub master: Tuple,
    /// The expected original tuple; a source port of 0 stands for any.
    pub tuple: Tuple,
    /// Which bits of `tuple` count. Its protocol number is a copy, not a mask.
    pub mask: Tuple,
    /// Seconds until expiry.
    pub timeout: u32,
    /// The kernel's identifier: opaque.
    pub id: u32,
    /// Helper.
    pub helper: Name<16>,
    /// Zone.
    pub zone: u16,
    /// `NF_CT_EXPECT_*`: 1 permanent, 2 inactive, 4 user space.
    pub flags: u32,
    /// Class of the helper's policy.
    pub class: u32,
    /// Direction whose address is translated: 0 original, 1 reply.
    pub nat_dir: u32,
    /// The saved address and port; only the source side has a meaning.
    pub nat: Tuple,
    /// Name of the function that sets the expected flow up.
    pub function: Name<32>,
}
