//! Reading the kernel's own type information (BTF): where members of its structures stand, and
//! the numbers of its functions that programs may call.
//!
//! The bytes come from the kernel, but nothing is taken for granted: a file that is cut off or
//! makes no sense gives `None`.

/// `struct btf_header`, as far as it is read.
const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
/// `struct btf_type`.
const TYPE: usize = 12;
/// `struct btf_member`.
const MEMBER: usize = 12;

const STRUCT: u32 = 4;
const FUNC: u32 = 12;

/// What [`super::lookup_program`] has to know of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupIds {
    /// Number of the function that finds a flow.
    pub(super) find: i32,
    /// Number of the function that gives it back.
    pub(super) release: i32,
    /// Offset of a flow's status word.
    pub(super) status: i16,
    /// Offset of its mark.
    pub(super) mark: i16,
    /// Offset of its TCP state.
    pub(super) tcp_state: i16,
}

impl LookupIds {
    /// Reads them from the contents of `/sys/kernel/btf/vmlinux`. `None` if the kernel has no
    /// such function, or tracks connections in a module.
    pub fn find(btf: &[u8]) -> Option<Self> {
        let btf = Btf::new(btf)?;
        let (mut find, mut release, mut flow) = (None, None, None);
        for t in btf.types() {
            match t.kind {
                FUNC if btf.is_named(t.name, b"bpf_xdp_ct_lookup") => find = Some(t.id),
                FUNC if btf.is_named(t.name, b"bpf_ct_release") => release = Some(t.id),
                STRUCT if btf.is_named(t.name, b"nf_conn") => flow = Some(t),
                _ => {}
            }
        }
        let (find, release, flow) = (find?, release?, flow?);
        let (status, _) = btf.member(&flow, b"status")?;
        let (mark, _) = btf.member(&flow, b"mark")?;
        let (proto, union) = btf.member(&flow, b"proto")?;
        let (tcp, tcp_type) = btf.member(&btf.types().find(|t| t.id == union)?, b"tcp")?;
        let (state, _) = btf.member(&btf.types().find(|t| t.id == tcp_type)?, b"state")?;
        Some(Self {
            find: i32::try_from(find).ok()?,
            release: i32::try_from(release).ok()?,
            status: i16::try_from(status).ok()?,
            mark: i16::try_from(mark).ok()?,
            tcp_state: i16::try_from(proto.checked_add(tcp)?.checked_add(state)?).ok()?,
        })
    }
}

/// The two sections of a file.
#[derive(Clone, Copy)]
struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

/// A type and what follows its head.
#[derive(Clone, Copy)]
struct Type<'a> {
    id: u32,
    name: u32,
    kind: u32,
    /// Members have bit sizes beside their offsets.
    bitfields: bool,
    members: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl<'a> Btf<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let magic = u16::from_ne_bytes(*bytes.first_chunk()?);
        if magic != MAGIC || bytes.len() < HEADER {
            return None;
        }
        let word = |at| u32_at(bytes, at).map(|n| n as usize);
        let body = bytes.get(word(4)?..)?;
        let section = |at: usize| body.get(word(at)?..)?.get(..word(at + 4)?);
        Some(Self { types: section(8)?, strings: section(16)? })
    }

    fn types(self) -> impl Iterator<Item = Type<'a>> {
        let mut rest = self.types;
        let mut id = 0;
        core::iter::from_fn(move || {
            let (name, info) = (u32_at(rest, 0)?, u32_at(rest, 4)?);
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let len = body_len(kind, count)?;
            let members = rest.get(TYPE..TYPE + len)?;
            rest = &rest[TYPE + len..];
            id += 1;
            Some(Type { id, name, kind, bitfields: info >> 31 == 1, members })
        })
    }

    fn is_named(self, name: u32, wanted: &[u8]) -> bool {
        let Some(rest) = self.strings.get(name as usize..) else { return false };
        rest.strip_prefix(wanted).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Offset in octets and type of a member.
    fn member(self, of: &Type<'a>, wanted: &[u8]) -> Option<(u32, u32)> {
        of.members.chunks_exact(MEMBER).find_map(|member| {
            let (name, kind, offset) = (u32_at(member, 0)?, u32_at(member, 4)?, u32_at(member, 8)?);
            let bits = if of.bitfields { offset & 0xff_ffff } else { offset };
            self.is_named(name, wanted).then_some((bits / 8, kind))
        })
    }
}

/// Octets that follow the head of a type.
const fn body_len(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // INT, VAR, DECL_TAG
        1 | 14 | 17 => 4,
        // ARRAY
        3 => 12,
        // STRUCT, UNION, DATASEC, ENUM64
        4 | 5 | 15 | 19 => 12 * count,
        // ENUM, FUNC_PROTO
        6 | 13 => 8 * count,
        // PTR, FWD, TYPEDEF, qualifiers, FUNC, FLOAT, TYPE_TAG
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a structure of flows and the two functions.
    fn file() -> Vec<u8> {
        let strings =
            b"\0nf_conn\0status\0mark\0proto\0tcp\0state\0bpf_xdp_ct_lookup\0bpf_ct_release\0";
        let at = |name: &[u8]| {
            let found = strings
                .windows(name.len() + 1)
                .position(|w| w[..name.len()] == *name && w[name.len()] == 0);
            found.unwrap() as u32
        };
        let mut types: Vec<u32> = Vec::new();
        // 1: the TCP part; its offsets are those of bit fields.
        types.extend([0, 1 << 31 | STRUCT << 24 | 1, 48, at(b"state"), 0, (8 << 24) | (40 * 8)]);
        // 2: the union.
        types.extend([0, 5 << 24 | 1, 48, at(b"tcp"), 1, 0]);
        // 3: an integer.
        types.extend([0, 1 << 24, 4, 32]);
        // 4: a flow.
        types.extend([at(b"nf_conn"), STRUCT << 24 | 3, 256]);
        types.extend([at(b"status"), 3, 128 * 8]);
        types.extend([at(b"mark"), 3, 168 * 8]);
        types.extend([at(b"proto"), 2, 184 * 8]);
        // 5 and 6: the functions.
        types.extend([at(b"bpf_ct_release"), FUNC << 24, 0]);
        types.extend([at(b"bpf_xdp_ct_lookup"), FUNC << 24, 0]);
        let mut file = Vec::new();
        file.extend(MAGIC.to_ne_bytes());
        file.extend([1, 0]);
        let len = 4 * types.len() as u32;
        for word in [24, 0, len, len, strings.len() as u32] {
            file.extend(word.to_ne_bytes());
        }
        file.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        file.extend(strings);
        file
    }

    #[test]
    fn offsets_and_numbers_are_found() {
        let ids = LookupIds { find: 6, release: 5, status: 128, mark: 168, tcp_state: 224 };
        assert_eq!(LookupIds::find(&file()), Some(ids));
    }

    #[test]
    fn a_file_that_is_cut_off_or_damaged_is_refused() {
        let whole = file();
        for len in 0..whole.len() - 1 {
            assert_eq!(LookupIds::find(&whole[..len]), None, "{len}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            let _ = LookupIds::find(&damaged);
        }
    }
}
