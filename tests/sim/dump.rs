//! Reading the kernel's table, block by block, as the hub's thread does.

use std::time::Instant;

use engine::hub::Hub;

use crate::kernel::{Kernel, Key};

/// The reader. The kernel fills a block when the one before it is taken, so what is read is a bit
/// older than the reading.
#[derive(Debug, Default)]
pub(crate) struct DumpReader {
    /// The block that is next, and the last key in it.
    block: Option<(Vec<u8>, Option<Key>)>,
    asked: bool,
    seq: u32,
}

impl DumpReader {
    pub(crate) const fn is_running(&self) -> bool {
        self.block.is_some()
    }

    pub(crate) fn begin(&mut self, now: Instant, kernel: &Kernel) {
        self.seq += 1;
        self.block = Some(kernel.dump(now, None, self.seq));
        self.asked = false;
    }

    /// Asks for the next block.
    pub(crate) const fn ask(&mut self) {
        self.asked = true;
    }

    /// Takes the block that was asked for; `broken`: there is none, the dump has failed.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        kernel: &Kernel,
        hub: &mut Hub,
        broken: bool,
    ) -> bool {
        if !std::mem::take(&mut self.asked) {
            return false;
        }
        let Some((bytes, last)) = self.block.take() else { return false };
        if broken {
            hub.dump_ended(now, false);
            return true;
        }
        hub.on_dump(now, &bytes);
        match last {
            Some(_) => self.block = Some(kernel.dump(now, last, self.seq)),
            None => hub.dump_ended(now, true),
        }
        true
    }
}
