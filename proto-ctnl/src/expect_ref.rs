//! An expectation in a message of the kernel, borrowed.

use crate::attr::{Attr, Attrs};
use crate::consts::*;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::expect::{Expect, ExpectPresent};
use crate::names::AttrSet;
use crate::nl::Message;
use crate::tuple::Tuple;
use crate::tuple_codec::tuple_at;

/// What a message says about its expectation. The kernel has no event for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExpectMessage {
    /// Event: a helper expects a flow.
    New,
    /// Event: the expectation was met, ran out or was evicted.
    Destroy,
    /// Part of a dump, or the answer to a request for one.
    Dump,
}

/// An expectation as a message of the kernel tells it.
#[derive(Clone, Copy, Debug)]
pub struct ExpectRef<'a> {
    message: Message<'a>,
    attrs: Attrs<'a>,
}

impl<'a> ExpectRef<'a> {
    /// Reads a message that tells an expectation: [`msg::EXP_NEW`] or [`msg::EXP_DELETE`].
    ///
    /// # Errors
    /// If the message is too short for its headers.
    pub fn parse(message: &Message<'a>) -> Result<Self, DecodeError> {
        let attrs = message.attrs()?;
        Ok(Self { message: *message, attrs })
    }

    /// What the message says about the expectation.
    pub const fn what(&self) -> ExpectMessage {
        if self.message.kind == msg::EXP_DELETE {
            ExpectMessage::Destroy
        } else if self.message.flags & flag::MULTI != 0 {
            ExpectMessage::Dump
        } else {
            ExpectMessage::New
        }
    }

    /// In an event: port id of the socket whose request caused it, 0 for packets and timers.
    pub const fn port(&self) -> u32 {
        self.message.port
    }

    /// The message.
    pub const fn message(&self) -> &Message<'a> {
        &self.message
    }

    /// The original tuple of the master.
    ///
    /// # Errors
    /// If it is missing or incomplete.
    pub fn master(&self) -> Result<Tuple, DecodeError> {
        self.tuple_of(CTA_EXPECT_MASTER).map_err(|error| error.rooted(AttrSet::Expect))
    }

    /// The expected tuple.
    ///
    /// # Errors
    /// If it is missing or incomplete.
    pub fn tuple(&self) -> Result<Tuple, DecodeError> {
        self.tuple_of(CTA_EXPECT_TUPLE).map_err(|error| error.rooted(AttrSet::Expect))
    }

    fn tuple_of(&self, kind: u16) -> Result<Tuple, DecodeError> {
        for attr in self.attrs {
            let attr = attr?;
            if attr.kind == kind {
                return tuple_at(self.message.bytes, &attr);
            }
        }
        let end = self.message.bytes.len();
        Err(DecodeError::new(DecodeErrorKind::Missing, end).within(kind))
    }

    /// Writes what the message tells into `expect` and adds it to [`Expect::present`].
    ///
    /// # Errors
    /// If an attribute is bad. `expect` then holds a part of the message.
    pub fn write_to(&self, expect: &mut Expect) -> Result<(), DecodeError> {
        self.attrs_to(expect).map_err(|error| error.rooted(AttrSet::Expect))
    }

    fn attrs_to(&self, expect: &mut Expect) -> Result<(), DecodeError> {
        let tuple = |attr: &Attr<'a>| tuple_at(self.message.bytes, attr);
        for attr in self.attrs {
            let attr = attr?;
            let bit = match attr.kind {
                CTA_EXPECT_MASTER => {
                    expect.master = tuple(&attr)?;
                    ExpectPresent::MASTER
                }
                CTA_EXPECT_TUPLE => {
                    expect.tuple = tuple(&attr)?;
                    ExpectPresent::TUPLE
                }
                CTA_EXPECT_MASK => {
                    expect.mask = tuple(&attr)?;
                    ExpectPresent::MASK
                }
                CTA_EXPECT_TIMEOUT => {
                    expect.timeout = attr.u32_be()?;
                    ExpectPresent::TIMEOUT
                }
                CTA_EXPECT_ID => {
                    expect.id = attr.u32_be()?;
                    ExpectPresent::ID
                }
                CTA_EXPECT_HELP_NAME => {
                    expect.helper = attr.name()?;
                    ExpectPresent::HELPER
                }
                CTA_EXPECT_ZONE => {
                    expect.zone = attr.u16_be()?;
                    ExpectPresent::ZONE
                }
                CTA_EXPECT_FLAGS => {
                    expect.flags = attr.u32_be()?;
                    ExpectPresent::FLAGS
                }
                CTA_EXPECT_CLASS => {
                    expect.class = attr.u32_be()?;
                    ExpectPresent::CLASS
                }
                CTA_EXPECT_NAT => {
                    self.nat_to(&attr, expect).map_err(|error| attr.wrap(error))?;
                    ExpectPresent::NAT
                }
                CTA_EXPECT_FN => {
                    expect.function = attr.name()?;
                    ExpectPresent::FUNCTION
                }
                _ => continue,
            };
            expect.present.insert(bit);
        }
        Ok(())
    }

    fn nat_to(&self, nest: &Attr<'a>, expect: &mut Expect) -> Result<(), DecodeError> {
        let (mut dir, mut tuple) = (None, None);
        for attr in nest.attrs() {
            let attr = attr?;
            match attr.kind {
                CTA_EXPECT_NAT_DIR => dir = Some(attr.u32_be()?),
                CTA_EXPECT_NAT_TUPLE => {
                    tuple = Some(tuple_at(self.message.bytes, &attr)?);
                }
                _ => {}
            }
        }
        let missing = |kind| DecodeError::new(DecodeErrorKind::Missing, nest.offset).within(kind);
        expect.nat_dir = dir.ok_or_else(|| missing(CTA_EXPECT_NAT_DIR))?;
        expect.nat = tuple.ok_or_else(|| missing(CTA_EXPECT_NAT_TUPLE))?;
        Ok(())
    }
}
