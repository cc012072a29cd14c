//! Statistics that the kernel answers with.

use crate::consts::*;
use crate::error::DecodeError;
use crate::names::AttrSet;
use crate::nl::Message;

/// Counters of one processor (`struct ip_conntrack_stat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// The processor.
    pub cpu: u16,
    /// Bit `CTA_STATS_*` for every counter that the kernel sent; newer ones send fewer.
    pub present: u16,
    counters: [u32; 16],
}

impl CpuStats {
    /// Counter `CTA_STATS_*`; 0 if the kernel no longer has it.
    pub const fn get(&self, counter: u16) -> u32 {
        if counter < 16 { self.counters[counter as usize] } else { 0 }
    }

    /// Whether the kernel sent counter `CTA_STATS_*`.
    pub const fn has(&self, counter: u16) -> bool {
        counter < 16 && self.present >> counter & 1 == 1
    }

    /// Reads an answer to [`Encoder::stats_cpu`](crate::Encoder::stats_cpu).
    ///
    /// # Errors
    /// If an attribute is bad.
    pub fn parse(message: &Message<'_>) -> Result<Self, DecodeError> {
        let mut stats = Self { cpu: message.resource()?, ..Self::default() };
        each_u32(message, AttrSet::StatsCpu, |kind, value| {
            if let Some(counter) = stats.counters.get_mut(usize::from(kind)) {
                *counter = value;
                stats.present |= 1 << kind;
            }
        })?;
        Ok(stats)
    }
}

/// Fill of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlobalStats {
    /// Entries of the namespace.
    pub entries: u32,
    /// Most entries that the kernel allows; older kernels do not tell.
    pub max_entries: Option<u32>,
}

impl GlobalStats {
    /// Reads an answer to [`Encoder::stats_global`](crate::Encoder::stats_global).
    ///
    /// # Errors
    /// If an attribute is bad.
    pub fn parse(message: &Message<'_>) -> Result<Self, DecodeError> {
        message.nf_head()?;
        let mut stats = Self::default();
        each_u32(message, AttrSet::StatsGlobal, |kind, value| match kind {
            CTA_STATS_GLOBAL_ENTRIES => stats.entries = value,
            CTA_STATS_GLOBAL_MAX_ENTRIES => stats.max_entries = Some(value),
            _ => {}
        })?;
        Ok(stats)
    }
}

/// Expectation counters of one processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectStats {
    /// The processor.
    pub cpu: u16,
    /// Flows that were expected.
    pub new: u32,
    /// Expectations made.
    pub create: u32,
    /// Expectations removed.
    pub delete: u32,
}

impl ExpectStats {
    /// Reads an answer to [`Encoder::expect_stats_cpu`](crate::Encoder::expect_stats_cpu).
    ///
    /// # Errors
    /// If an attribute is bad.
    pub fn parse(message: &Message<'_>) -> Result<Self, DecodeError> {
        let mut stats = Self { cpu: message.resource()?, ..Self::default() };
        each_u32(message, AttrSet::StatsExpect, |kind, value| match kind {
            CTA_STATS_EXP_NEW => stats.new = value,
            CTA_STATS_EXP_CREATE => stats.create = value,
            CTA_STATS_EXP_DELETE => stats.delete = value,
            _ => {}
        })?;
        Ok(stats)
    }
}

/// Calls `f` with number and value of each attribute that the set names.
fn each_u32(
    message: &Message<'_>,
    set: AttrSet,
    mut f: impl FnMut(u16, u32),
) -> Result<(), DecodeError> {
    for attr in message.attrs()? {
        let attr = attr.map_err(|error| error.rooted(set))?;
        if set.name(attr.kind).is_some() {
            f(attr.kind, attr.u32_be().map_err(|error| error.rooted(set))?);
        }
    }
    Ok(())
}
