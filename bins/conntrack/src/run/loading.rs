//! The requests of a file that make flows: many with one send, and none of them is done that stands
//! behind one that the kernel refuses.
//!
//! The kernel works off all requests of a datagram, whatever becomes of one. So each of them asks to
//! make a flow and to leave one alone that exists: what was made is taken back as if it had not been
//! asked for, which no change could be. Flows of `-A` that exist are changed afterwards, one by one if
//! they are few. Where many exist, as when a table is loaded once more, they are changed together, and
//! it is told how many of them stand behind one that is refused.

use proto_ctnl::consts::flag;
use proto_ctnl::{Content, Flow, Messages};

use crate::args::{Command, Table};
use crate::failure::{Failure, say};
use crate::kernel::{EXISTS, Errno, GONE, Kernel, NO_ROOM};
use crate::output::Progress;
use crate::pipeline::Pipeline;

/// Lines of a file in which a bad one is found without its number. The original never tells it,
/// and what it says about short files is matched by scripts.
pub(super) const SHORT_FILE: u64 = 100;
/// Requests that go one by one before they go together, so that in files of a usual size nothing
/// has to be taken back: others see the events.
const CAREFUL: u64 = 64;
/// Requests that go together later.
const TOGETHER: u32 = 256;
/// Flows that are changed one by one. More of them would cost what is gained by the rest.
const FEW: usize = 16;
/// Offset of the flags in the header of a request.
const FLAGS_AT: usize = 6;

/// Tells the number of a bad line, unless it is found without.
pub(super) fn tell_line(number: u64) {
    if number > SHORT_FILE {
        say(&[b"line ", number.to_string().as_bytes(), b":"]);
    }
}

/// Requests on their way.
pub(super) struct Loading {
    pipeline: Pipeline,
    requests: Vec<u8>,
    waiting: Vec<Waiting>,
    refused: Vec<(usize, Errno)>,
    done: u64,
    progress: Progress,
}

/// The line that a request is of.
struct Waiting {
    command: Command,
    number: u64,
    /// Where the request ends among all.
    end: usize,
}

impl Loading {
    pub(super) fn new() -> Result<Self, Failure> {
        let mut pipeline = Pipeline::new(Kernel::open(Command::Create, Table::Conntrack)?);
        pipeline.limit(1);
        let progress = Progress::of_silence("loaded");
        let (requests, waiting, refused) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { pipeline, requests, waiting, refused, done: 0, progress })
    }

    /// Asks for a flow that must not exist yet. With `-A` one that exists is changed.
    pub(super) fn add(
        &mut self,
        command: Command,
        number: u64,
        request: &[u8],
    ) -> Result<(), Failure> {
        if self.pipeline.push_bytes(request).is_err() {
            self.exchange()?;
            if self.pipeline.push_bytes(request).is_err() {
                return Err(self.failure(command, NO_ROOM));
            }
        }
        self.requests.extend_from_slice(request);
        self.waiting.push(Waiting { command, number, end: self.requests.len() });
        Ok(())
    }

    /// Sends the rest.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.exchange()
    }

    /// Sends what waits. What stands behind a request that is refused is not done.
    pub(super) fn exchange(&mut self) -> Result<(), Failure> {
        let Self { pipeline, refused, .. } = self;
        refused.clear();
        let result = pipeline.exchange(|place, answer| {
            if let Err(errno) = answer {
                refused.push((place, errno));
            }
        });
        result.map_err(|errno| self.pipeline.kernel().failure(errno))?;
        let refused = self.refused.iter().find(|refused| !self.is_there(refused)).copied();
        let end = refused.map_or(self.waiting.len(), |(place, _)| place);
        let there = self.refused.iter().filter(|refused| refused.0 < end);
        let there: Vec<usize> = there.map(|(place, _)| *place).collect();
        let together = if there.len() > FEW { there.len() } else { 1 };
        for places in there.chunks(together) {
            self.change(places)?;
        }
        if let Some((place, errno)) = refused {
            return Err(self.stop(place, errno, 0));
        }
        self.done += self.waiting.len() as u64;
        self.waiting.clear();
        self.requests.clear();
        if self.done >= CAREFUL {
            self.pipeline.limit(TOGETHER);
        }
        self.progress.show(self.done);
        Ok(())
    }

    fn request(&self, place: usize) -> &[u8] {
        let begin = place.checked_sub(1).map_or(0, |before| self.waiting[before].end);
        &self.requests[begin..self.waiting[place].end]
    }

    /// Whether the flow of a request was not made because `-A` is to change it.
    fn is_there(&self, (place, errno): &(usize, Errno)) -> bool {
        *errno == EXISTS && self.waiting[*place].command == Command::Add
    }

    /// Asks for flows whether they exist or not.
    fn change(&mut self, places: &[usize]) -> Result<(), Failure> {
        for place in places {
            let mut request = self.request(*place).to_vec();
            let flags = u16::from_ne_bytes([request[FLAGS_AT], request[FLAGS_AT + 1]]);
            let flags = (flags & !flag::EXCL).to_ne_bytes();
            request[FLAGS_AT..FLAGS_AT + 2].copy_from_slice(&flags);
            // There was room for all that waits.
            let pushed = self.pipeline.push_bytes(&request);
            pushed.map_err(|_| self.failure(Command::Add, NO_ROOM))?;
        }
        let mut refused = Vec::new();
        let result = self.pipeline.exchange(|nth, answer| {
            if let Err(errno) = answer {
                refused.push((nth, errno));
            }
        });
        result.map_err(|errno| self.failure(Command::Add, errno))?;
        match refused.first() {
            None => Ok(()),
            Some((nth, errno)) => {
                let changed = places.len() - nth - refused.len();
                Err(self.stop(places[*nth], *errno, changed))
            }
        }
    }

    /// The end at a request that is refused, behind which so many flows were changed.
    fn stop(&mut self, place: usize, errno: Errno, changed: usize) -> Failure {
        self.progress.done();
        let Waiting { command, number, .. } = self.waiting[place];
        tell_line(number);
        let left = changed + self.take_back(place + 1);
        if left > 0 {
            say(&[left.to_string().as_bytes(), b" lines behind it are done all the same"]);
        }
        self.failure(command, errno)
    }

    /// Removes what was made from a place on, the last first: it may expect others to be there. Answers
    /// how many flows are left.
    fn take_back(&mut self, first: usize) -> usize {
        let mut flow = Flow::default();
        let mut made = 0;
        for place in (first..self.waiting.len()).rev() {
            if self.refused.iter().any(|(refused, _)| *refused == place) {
                continue;
            }
            made += 1;
            flow.clear();
            let message = Messages::new(self.request(place)).next().and_then(Result::ok);
            if let Some(Ok(Content::Flow(seen))) = message.map(|message| message.content())
                && seen.write_to(&mut flow).is_ok()
            {
                // There is room: these are smaller than those that made them.
                let _ = self.pipeline.push(|encoder, seq| {
                    encoder.flow_delete(&flow.orig, flow.key_zone(), None, seq, false)
                });
            }
        }
        let mut kept = 0;
        let result = self.pipeline.exchange(|_, answer| {
            kept += usize::from(answer.is_err_and(|errno| errno != GONE));
        });
        result.map_or(made, |()| kept)
    }

    /// What is said of a request.
    pub(super) fn failure(&mut self, command: Command, errno: Errno) -> Failure {
        let kernel = self.pipeline.kernel();
        kernel.asks_for(command);
        kernel.failure(errno)
    }
}
