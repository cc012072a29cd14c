//! The system call `bpf(2)`: maps, programs, and no more than the event intake needs.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use proto_ctnl::bpf::{Insn, LookupRecord};

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const PROG_RUN: libc::c_long = 10;

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_LPM_TRIE: u32 = 11;
const MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;
const MAP_TYPE_RINGBUF: u32 = 27;
const PROG_TYPE_SOCKET_FILTER: u32 = 1;
const PROG_TYPE_XDP: u32 = 6;
const F_NO_PREALLOC: u32 = 1;
const F_MMAPABLE: u32 = 0x400;

/// The part of `union bpf_attr` that creates a map.
#[repr(C)]
#[derive(Default)]
struct CreateMap {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map_fd: u32,
}

/// The part of `union bpf_attr` that sets an element.
#[repr(C)]
struct UpdateElement {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The key of a network in a trie.
#[repr(C)]
struct NetworkKey<const OCTETS: usize> {
    /// Leading bits of the address that count.
    bits: u32,
    address: [u8; OCTETS],
}

/// The part of `union bpf_attr` that loads a program.
#[repr(C)]
struct LoadProgram {
    kind: u32,
    instructions: u32,
    code: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// The part of `union bpf_attr` that runs a program once on given octets.
#[repr(C)]
struct RunProgram {
    program_fd: u32,
    result: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// # Safety
/// The addresses in `attribute` must be valid for what `command` does with them.
unsafe fn bpf<T>(command: libc::c_long, attribute: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads as many octets of the attribute as it is told; the rest is the
    // caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attribute, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn create(map: &CreateMap) -> io::Result<OwnedFd> {
    // SAFETY: creating a map takes no addresses; the descriptor it returns is new and ours.
    unsafe { bpf(MAP_CREATE, map).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// A ring buffer of `octets`: a power of two and a multiple of the page size.
pub(crate) fn create_ring(octets: u32) -> io::Result<OwnedFd> {
    create(&CreateMap { kind: MAP_TYPE_RINGBUF, max_entries: octets, ..CreateMap::default() })
}

/// An array of one element that can be mapped.
pub(crate) fn create_mappable(octets: u32) -> io::Result<OwnedFd> {
    create(&CreateMap {
        kind: MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: octets,
        max_entries: 1,
        flags: F_MMAPABLE,
        ..CreateMap::default()
    })
}

/// An array of maps that are like `rings`, holding them in order.
pub(crate) fn create_outer(rings: &[OwnedFd]) -> io::Result<OwnedFd> {
    let first = rings.first().ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let outer = create(&CreateMap {
        kind: MAP_TYPE_ARRAY_OF_MAPS,
        key_size: 4,
        value_size: 4,
        max_entries: rings.len() as u32,
        inner_map_fd: raw(first.as_fd()),
        ..CreateMap::default()
    })?;
    for (key, ring) in (0u32..).zip(rings) {
        // SAFETY: the map was made with keys and values of four octets.
        unsafe { update(outer.as_fd(), &key, &raw(ring.as_fd()))? };
    }
    Ok(outer)
}

/// A trie of networks, at least one, in which an address finds whether one of them holds it. Each
/// is an address and the number of its leading bits that count; none is given twice.
pub(crate) fn create_networks<const OCTETS: usize>(
    networks: impl ExactSizeIterator<Item = ([u8; OCTETS], u8)>,
) -> io::Result<OwnedFd> {
    let trie = create(&CreateMap {
        kind: MAP_TYPE_LPM_TRIE,
        key_size: size_of::<NetworkKey<OCTETS>>() as u32,
        value_size: 1,
        max_entries: networks.len() as u32,
        flags: F_NO_PREALLOC,
        ..CreateMap::default()
    })?;
    for (address, bits) in networks {
        let key = NetworkKey { bits: bits.into(), address };
        // SAFETY: the map was made with keys of this type and values of one octet.
        unsafe { update(trie.as_fd(), &key, &1u8)? };
    }
    Ok(trie)
}

/// Sets an element.
///
/// # Safety
/// `K` and `V` must be as large as the map's keys and values and have no padding.
unsafe fn update<K, V>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let update = UpdateElement {
        map_fd: raw(map),
        pad: 0,
        key: &raw const *key as u64,
        value: &raw const *value as u64,
        flags: 0,
    };
    // SAFETY: key and value live through the call and have the sizes of the map, as the caller
    // promises.
    unsafe { bpf(MAP_UPDATE_ELEM, &update).map(|_| ()) }
}

/// A loaded socket filter. `log` collects what the verifier says; empty for silence.
pub(crate) fn load_socket_filter(program: &[Insn], log: &mut [u8]) -> io::Result<OwnedFd> {
    load(PROG_TYPE_SOCKET_FILTER, program, c"MIT OR Apache-2.0", log)
}

/// A loaded program on packets. The kernel's functions for flows may be called only by programs
/// that are offered under the GPL as well, which the licence of this one permits.
pub(crate) fn load_xdp(program: &[Insn]) -> io::Result<OwnedFd> {
    load(PROG_TYPE_XDP, program, c"Dual MIT/GPL", &mut [])
}

fn load(kind: u32, program: &[Insn], licence: &CStr, log: &mut [u8]) -> io::Result<OwnedFd> {
    let code: Vec<u64> = program.iter().map(|insn| insn.to_u64()).collect();
    let load = LoadProgram {
        kind,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        licence: licence.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
    };
    // SAFETY: the addresses are those of a vector, a string and a slice that live through the
    // call, with their lengths; the descriptor it returns is new and ours.
    unsafe { bpf(PROG_LOAD, &load).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Runs a program on packets once, with `records` as the packet, and takes back what it made of
/// them.
pub(crate) fn run_xdp(program: BorrowedFd<'_>, records: &mut [LookupRecord]) -> io::Result<()> {
    let size = size_of_val(records) as u32;
    let records = records.as_mut_ptr() as u64;
    let run = RunProgram {
        program_fd: raw(program),
        result: 0,
        size_in: size,
        size_out: size,
        data_in: records,
        data_out: records,
        repeat: 1,
        duration: 0,
    };
    // SAFETY: the kernel reads `size` octets of the records before it runs the program and writes
    // as many after; the slice is borrowed for that long, and its type has no invalid values.
    unsafe { bpf(PROG_RUN, &run).map(|_| ()) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}
