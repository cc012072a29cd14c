//! Looking at many flows of the kernel's table by one system call each few dozen.

use std::os::fd::{AsFd as _, OwnedFd};

use proto_ctnl::bpf::{LOOKUP_RECORDS, Looked, LookupIds, LookupRecord, lookup_program};
use proto_ctnl::{L4, Tuple, proto};

use crate::bpf;
use crate::error::{Context as _, IoError};

/// Type information of the running kernel.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// A loaded [`lookup_program`]. It looks at the calling thread's network namespace.
#[derive(Debug)]
pub struct FlowLookup {
    program: OwnedFd,
}

impl FlowLookup {
    /// Loads the program and tries it. Takes some milliseconds.
    ///
    /// # Errors
    /// If privileges are missing, or the kernel lacks type information or the functions.
    pub fn open() -> Result<Self, IoError> {
        let btf = std::fs::read(BTF).map_err(|error| IoError::new("read", BTF, error))?;
        let unsupported = || std::io::Error::from(std::io::ErrorKind::Unsupported);
        let ids = LookupIds::find(&btf)
            .ok_or_else(|| IoError::new("find functions for flows in", BTF, unsupported()))?;
        drop(btf);
        let program = bpf::load_xdp(&lookup_program(&ids)).doing("load the look-up program")?;
        let lookup = Self { program };
        // A flow that nobody has: from and to the unspecified address.
        let nowhere = Tuple { proto: proto::TCP, l4: L4::ports(0, 0), ..Tuple::default() };
        let mut records = [LookupRecord::new(&nowhere, 0, 0).unwrap_or(LookupRecord::empty())];
        lookup.look(&mut records)?;
        match records[0].looked() {
            Looked::Missing | Looked::Found { .. } => Ok(lookup),
            Looked::Failed(errno) => {
                let error = std::io::Error::from_raw_os_error(errno);
                Err(IoError::new("try the look-up program", "", error))
            }
        }
    }

    /// Another handle of the same program, for another thread.
    ///
    /// # Errors
    /// If there are too many descriptors.
    pub fn try_clone(&self) -> Result<Self, IoError> {
        let program = self.program.try_clone().doing("duplicate the look-up program")?;
        Ok(Self { program })
    }

    /// Looks at the flows of all records. A system call for each [`LOOKUP_RECORDS`] of them.
    ///
    /// # Errors
    /// If the kernel does not run the program; records without an answer say so.
    pub fn look(&self, records: &mut [LookupRecord]) -> Result<(), IoError> {
        for chunk in records.chunks_mut(LOOKUP_RECORDS) {
            bpf::run_xdp(self.program.as_fd(), chunk).doing("look up flows")?;
        }
        Ok(())
    }
}
