//! Making sockets, maps and programs of an intake.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use proto_ctnl::bpf::{CONTROL_BYTES_PER_SHARD, ring_program, steering_filter};

use super::bpfring::BpfRing;
use super::shard::{Control, ShardIntake};
use super::{IntakeKind, IntakeOptions};
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
) -> Result<Vec<ShardIntake>, IoError> {
    let mut shards = match kind {
        IntakeKind::Ring => open_rings(count, options)?,
        IntakeKind::Filter => open_filters(count, options)?,
        IntakeKind::Single => {
            let socket = socket(options, options.buffer_bytes / 2).open(|_| Ok(()))?;
            let mut shards: Vec<_> = (0..count).map(|_| ShardIntake::new(kind)).collect();
            shards[0].set_socket(socket);
            shards
        }
    };
    if options.expectations && options.subscribe {
        let socket = EventSocket { groups: EXPECTATIONS, receive_bytes: 0, reliable: false };
        shards[0].set_expectations(socket.open(|_| Ok(()))?);
    }
    Ok(shards)
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

fn open_rings(count: u8, options: &IntakeOptions) -> Result<Vec<ShardIntake>, IoError> {
    let rings = Rings::load(count, options.buffer_bytes / u32::from(count), options.reliable)?;
    // What the program leaves to the socket is rare. With reliable events the socket has to be
    // full as soon as it holds one message, so that the kernel notices.
    let receive_bytes = if options.reliable { SMALLEST_BUFFER } else { 0 };
    let socket =
        socket(options, receive_bytes).open(|fd| sockopt::attach_program(fd, &rings.program))?;
    rings.into_shards(socket)
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
    pub(super) fn load(count: u8, bytes: u32, reliable: bool) -> Result<Self, IoError> {
        let page = rustix::param::page_size() as u32;
        let bytes = bytes.clamp(page, RING_MAX).next_power_of_two();
        let rings = (0..count)
            .map(|_| bpf::create_ring(bytes))
            .collect::<Result<Vec<_>, _>>()
            .doing("create a BPF ring buffer")?;
        let outer = bpf::create_outer(&rings).doing("create a BPF array of rings")?;
        let control_bytes = CONTROL_BYTES_PER_SHARD * u32::from(count);
        let control = bpf::create_mappable(control_bytes).doing("create a BPF array")?;
        let code = ring_program(count.into(), outer.as_raw_fd(), control.as_raw_fd(), reliable);
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

/// The line before the statistics that ends the verifier's log: what it did not like.
fn last_words(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let mut lines = text.trim_end_matches('\0').lines().rev();
    lines
        .find(|line| !line.starts_with("processed "))
        .map(|line| format!("({line})"))
        .unwrap_or_default()
}
