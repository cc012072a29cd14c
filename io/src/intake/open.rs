//! Making sockets, maps and programs of an intake.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use proto_ctnl::bpf::{
    CONTROL_BYTES_PER_SHARD, EventFilter, RingMaps, ring_program, steering_filter,
};

use super::bpfring::BpfRing;
use super::shard::{Control, ShardIntake};
use super::{Filtering, IntakeKind, IntakeOptions, Opened};
use crate::bpf;
use crate::error::{Context as _, IoError};
use crate::fd::Fd;
use crate::map::Mapping;
use crate::netlink::{EventSocket, group};
use crate::sockopt;

/// Multicast groups of flows.
const FLOWS: &[u32] = &[group::NEW, group::UPDATE, group::DESTROY];
/// Multicast groups of expectations.
const EXPECTATIONS: &[u32] = &[group::EXPECT_NEW, group::EXPECT_DESTROY];
/// Largest ring: the kernel wants both copies of the data in half of the address range.
const RING_MAX: u32 = 1 << 30;
/// Receive buffer that the kernel raises to the smallest it has: one message.
const SMALLEST_BUFFER: u32 = 1;
/// Room for the verifier's complaint.
const LOG_BYTES: usize = 64 << 10;

pub(super) fn open(
    kind: IntakeKind,
    count: u8,
    options: &IntakeOptions,
) -> Result<Opened, IoError> {
    let unfiltered =
        if options.filter.is_empty() { Filtering::Nothing } else { Filtering::Delivered };
    let (mut shards, filtering) = match kind {
        IntakeKind::Ring => open_rings(count, options)?,
        IntakeKind::Filter => (open_filters(count, options)?, unfiltered),
        IntakeKind::Single => {
            let socket = socket(options, options.buffer_bytes / 2).open(|_| Ok(()))?;
            let mut shards: Vec<_> = (0..count).map(|_| ShardIntake::new(kind)).collect();
            shards[0].set_socket(socket);
            (shards, unfiltered)
        }
    };
    if options.expectations && options.subscribe {
        let socket = EventSocket { groups: EXPECTATIONS, receive_bytes: 0, reliable: false };
        shards[0].set_expectations(socket.open(|_| Ok(()))?);
    }
    Ok(Opened { shards, filtering })
}

/// A socket for flows. The kernel doubles the size of its buffer.
fn socket(options: &IntakeOptions, receive_bytes: u32) -> EventSocket<'static> {
    let groups = if options.subscribe { FLOWS } else { &[] };
    EventSocket { groups, receive_bytes, reliable: options.reliable }
}

fn open_filters(count: u8, options: &IntakeOptions) -> Result<Vec<ShardIntake>, IoError> {
    let share = options.buffer_bytes / u32::from(count) / 2;
    (0..count)
        .map(|shard| {
            let filter = steering_filter(count.into(), shard.into());
            let mut part = ShardIntake::new(IntakeKind::Filter);
            part.set_socket(
                socket(options, share).open(|fd| {
                    if count > 1 { sockopt::attach_filter(fd, &filter) } else { Ok(()) }
                })?,
            );
            Ok(part)
        })
        .collect()
}

fn open_rings(
    count: u8,
    options: &IntakeOptions,
) -> Result<(Vec<ShardIntake>, Filtering), IoError> {
    let bytes = options.buffer_bytes / u32::from(count);
    let load = |filter| Rings::load(count, bytes, options.reliable, filter);
    let nothing = EventFilter::default();
    let (rings, filtering) = match load(&options.filter) {
        Ok(rings) if options.filter.is_empty() => (rings, Filtering::Nothing),
        Ok(rings) => (rings, Filtering::InKernel),
        Err(error) if options.filter.is_empty() => return Err(error),
        // Rings are worth more than a filter in the kernel.
        Err(error) => (load(&nothing)?, Filtering::Refused(error)),
    };
    // What the program leaves to the socket is rare. With reliable events the socket has to be
    // full as soon as it holds one message, so that the kernel notices.
    let receive_bytes = if options.reliable { SMALLEST_BUFFER } else { 0 };
    let socket =
        socket(options, receive_bytes).open(|fd| sockopt::attach_program(fd, &rings.program))?;
    Ok((rings.into_shards(socket)?, filtering))
}

/// The kernel objects of a ring intake.
pub(super) struct Rings {
    rings: Vec<OwnedFd>,
    bytes: u32,
    control: OwnedFd,
    control_bytes: u32,
    program: OwnedFd,
}

impl Rings {
    /// Makes rings of at least `bytes` each and loads the program.
    pub(super) fn load(
        count: u8,
        bytes: u32,
        reliable: bool,
        filter: &EventFilter,
    ) -> Result<Self, IoError> {
        let page = rustix::param::page_size() as u32;
        let bytes = bytes.clamp(page, RING_MAX).next_power_of_two();
        let rings = (0..count)
            .map(|_| bpf::create_ring(bytes))
            .collect::<Result<Vec<_>, _>>()
            .doing("create a BPF ring buffer")?;
        let outer = bpf::create_outer(&rings).doing("create a BPF array of rings")?;
        let control_bytes = CONTROL_BYTES_PER_SHARD * u32::from(count);
        let control = bpf::create_mappable(control_bytes).doing("create a BPF array")?;
        // The program keeps the maps that it uses.
        let networks =
            Networks::load(filter).doing("create a BPF trie of the filter's networks")?;
        let maps = RingMaps {
            rings: outer.as_raw_fd(),
            control: control.as_raw_fd(),
            v4: networks.v4.as_ref().map(AsRawFd::as_raw_fd),
            v6: networks.v6.as_ref().map(AsRawFd::as_raw_fd),
        };
        let code = ring_program(count.into(), &maps, reliable, filter);
        let program = bpf::load_socket_filter(&code, &mut [])
            .or_else(|error| {
                // Once more, to hear why.
                let mut log = vec![0; LOG_BYTES];
                bpf::load_socket_filter(&code, &mut log).map_err(|_| (error, log))
            })
            .map_err(|(error, log)| {
                IoError::new("load the BPF program", last_words(&log), error)
            })?;
        Ok(Self { rings, bytes, control, control_bytes, program })
    }

    fn into_shards(self, socket: Fd) -> Result<Vec<ShardIntake>, IoError> {
        let page = rustix::param::page_size();
        let octets = (self.control_bytes as usize).next_multiple_of(page);
        let control = Mapping::shared(&self.control, 0, octets, true).doing("map a BPF array")?;
        let control = Arc::new(Control::new(control));
        let mut shards = Vec::with_capacity(self.rings.len());
        for (shard, fd) in self.rings.into_iter().enumerate() {
            let ring = BpfRing::map(fd, self.bytes).doing("map a BPF ring buffer")?;
            let mut part = ShardIntake::new(IntakeKind::Ring);
            part.set_ring(ring, Arc::clone(&control), shard);
            shards.push(part);
        }
        shards[0].set_socket(socket);
        Ok(shards)
    }
}

/// The networks of a filter, by family; `None` where it has none.
struct Networks {
    v4: Option<OwnedFd>,
    v6: Option<OwnedFd>,
}

impl Networks {
    fn load(filter: &EventFilter) -> io::Result<Self> {
        let Some(list) = &filter.addresses else { return Ok(Self { v4: None, v6: None }) };
        let v4 = list.v4.iter().map(|(address, bits)| (address.octets(), *bits));
        let v6 = list.v6.iter().map(|(address, bits)| (address.octets(), *bits));
        Ok(Self {
            v4: (v4.len() > 0).then(|| bpf::create_networks(v4)).transpose()?,
            v6: (v6.len() > 0).then(|| bpf::create_networks(v6)).transpose()?,
        })
    }
}

/// The line before the statistics that ends the verifier's log: what it did not like.
fn last_words(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let mut lines = text.trim_end_matches('\0').lines().rev();
    lines
        .find(|line| !line.starts_with("processed "))
        .map(|line| format!("({line})"))
        .unwrap_or_default()
}
