//! What the kernel told, events and parts of its table, as a shard takes it: into the internal caches.

use proto_ctnl::{
    Content as KernelContent, DecodeError, Expect, ExpectMessage, ExpectPresent, ExpectRef,
    FlowMessage, FlowRef, Message, Messages, Present,
};

use crate::cache::TOGETHER;
use crate::clock::Moment;
use crate::config::Expectations;
use crate::index::{Hashed, Key};
use crate::kernel::{Effect, Origin};
use crate::mesh::Content;
use crate::shard::Shard;

/// By which flow's entry a message is taken, if it is of a flow.
fn key_of(message: &Option<KernelContent<'_>>) -> Key {
    match message {
        Some(KernelContent::Flow(flow)) => Key::new(&flow.orig(), flow.key_zone()),
        _ => Key::NONE,
    }
}

impl Shard {
    /// Messages from the kernel, one behind the other.
    pub fn on_kernel_datagram(&mut self, now: Moment, content: Content, datagram: &[u8]) {
        self.on_messages(now, content, Messages::new(datagram));
    }

    /// Events, one message each, in the order in which they came.
    pub fn on_kernel_events(&mut self, now: Moment, events: &[&[u8]]) {
        self.on_messages(now, Content::Events, events.iter().map(|event| Message::parse(event)));
    }

    /// Takes some messages at a time, so that the memory of their flows is fetched together.
    fn on_messages<'a>(
        &mut self,
        now: Moment,
        content: Content,
        messages: impl Iterator<Item = Result<Message<'a>, DecodeError>>,
    ) {
        let mut messages = messages.map(|message| message.and_then(|m| m.content()).ok());
        loop {
            let mut some = [None; TOGETHER];
            let mut count = 0;
            for (place, message) in some.iter_mut().zip(&mut messages) {
                *place = message;
                count += 1;
            }
            let Some(some) = some.get(..count).filter(|some| !some.is_empty()) else { return };
            let hashed = self.caches.internal.foresee(some.iter().map(key_of));
            for (message, at) in some.iter().zip(&hashed) {
                self.on_message(now, content, message.as_ref(), at);
            }
        }
    }

    /// `at` is where a flow's entry is, or would be.
    fn on_message(
        &mut self,
        now: Moment,
        content: Content,
        message: Option<&KernelContent<'_>>,
        at: &Hashed,
    ) {
        match (message, content) {
            (Some(KernelContent::Flow(flow)), Content::Dump) => {
                if !self.bypass_dump(now, flow) {
                    self.kernel.on_dump_message(now.at, &mut self.caches, flow);
                }
            }
            (Some(KernelContent::Flow(flow)), _) => self.on_event(now, flow, at),
            (Some(KernelContent::Expect(expect)), Content::Dump) => {
                self.expect = Expect::default();
                if expect.write_to(&mut self.expect).is_err() {
                    self.counters.unknown += 1;
                    return;
                }
                let expect = self.expect;
                if self.wants(&expect) && !self.bypass_dump_expect(now, &expect) {
                    self.kernel.on_dump_expect(now.at, &mut self.caches, &expect);
                }
            }
            (Some(KernelContent::Expect(expect)), _) => {
                self.counters.events += 1;
                let origin = self.kernel.origin(expect.port(), &self.ports);
                let effect = match expect.what() {
                    ExpectMessage::Destroy => origin.on_destroy(),
                    _ => origin.on_change(),
                };
                self.on_expect(now, expect, effect);
            }
            _ => self.counters.unknown += 1,
        }
    }

    /// The intake kept so many events back that the filter refuses.
    pub const fn filtered_by_intake(&mut self, events: u64) {
        self.counters.events += events;
        self.counters.filtered += events;
    }

    fn on_event(&mut self, now: Moment, event: &FlowRef<'_>, at: &Hashed) {
        self.counters.events += 1;
        self.scratch.clear();
        if event.write_to(&mut self.scratch).is_err() {
            self.counters.unknown += 1;
            return;
        }
        let origin = self.kernel.origin(event.port(), &self.ports);
        if event.what() == FlowMessage::Destroy {
            self.on_destroy(now, event, at, origin);
        } else if self.filter.passes(&self.scratch) {
            self.on_change(now, event, at, origin);
        } else {
            self.counters.filtered += 1;
        }
    }

    fn on_change(&mut self, now: Moment, event: &FlowRef<'_>, at: &Hashed, origin: Origin) {
        if self.bypass_event(now, event, origin) {
            return;
        }
        let effect = origin.on_change();
        let internal = &mut self.caches.internal;
        let stored = match effect {
            Effect::Follow if internal.find_hashed(at).is_none() => return,
            Effect::Confirm => {
                self.kernel.confirm(now.at, &mut self.caches, event);
                return;
            }
            Effect::Cache if event.what() == FlowMessage::New => {
                internal.adopt_at(at, &self.scratch, now.secs)
            }
            Effect::CacheAndSend if event.what() == FlowMessage::New => {
                internal.replace_at(at, &self.scratch, now.secs)
            }
            Effect::Follow | Effect::Cache | Effect::CacheAndSend => {
                let stored = internal.merge_at(at, &self.scratch, now.secs);
                if let Ok(stored) = stored
                    && !self.scratch.present.has(Present::MARK)
                {
                    internal.unmark(stored.index);
                }
                stored
            }
        };
        if let (Ok(stored), Effect::Follow) = (&stored, effect) {
            internal.follow(stored.index);
        }
        // A full cache counts the flow itself; the next update tries again.
        if let (Ok(stored), Effect::CacheAndSend, true) = (stored, effect, self.replicates) {
            internal.mark_changed(stored.index);
            internal.claim(stored.index);
            if internal.has_unread() {
                self.kernel.read_soon(now.at);
            }
        }
    }

    fn on_destroy(&mut self, now: Moment, event: &FlowRef<'_>, at: &Hashed, origin: Origin) {
        let flow = &self.scratch;
        if !self.filter.passes_end(flow) {
            self.counters.filtered += 1;
            return;
        }
        if self.bypass_event(now, event, origin) {
            self.count_traffic();
            return;
        }
        let flow = &self.scratch;
        let zone = flow.key_zone();
        let found = self.caches.internal.find_hashed(at);
        // Whose the others were is not known.
        if found.is_some() {
            self.count_traffic();
        }
        let flow = &self.scratch;
        let internal = &mut self.caches.internal;
        match (found, origin.on_destroy()) {
            (None, _) => internal.note_destroyed(&flow.orig, zone),
            // A peer whose flow it is may see packets of it, which nobody tells: that it ran out
            // here is no reason to end it there.
            (Some(index), Effect::CacheAndSend)
                if internal.is_unclaimed(index) && !flow.present.has(Present::TIMEOUT) =>
            {
                internal.remove(index);
            }
            (Some(index), Effect::CacheAndSend | Effect::Confirm) if self.replicates => {
                internal.kill(index);
            }
            // A commit takes an entry away to make its own in its place, and may then fail to: of
            // such an end the peer must hear some time. So it must of one whose begin is on its way
            // when the kernel's table is flushed: it may arrive when the peer has been flushed too.
            (Some(index), Effect::Cache)
                if origin == Origin::Commit
                    || origin == Origin::Flush && internal.is_under_way(index) =>
            {
                internal.end_quietly(index);
            }
            (Some(index), _) => {
                if let Some(log) = &self.flow_log {
                    log.ended(now.at, flow);
                }
                internal.note_destroyed(&flow.orig, zone);
                internal.remove(index);
            }
        }
    }

    /// Adds what the flow at hand carried to the traffic that ended.
    fn count_traffic(&mut self) {
        let flow = &self.scratch;
        for (bit, counters) in
            [Present::COUNTERS_ORIG, Present::COUNTERS_REPLY].into_iter().zip(flow.counters)
        {
            if flow.present.has(bit) {
                self.counters.traffic.bytes += counters.bytes;
                self.counters.traffic.packets += counters.packets;
            }
        }
    }

    fn on_expect(&mut self, now: Moment, event: &ExpectRef<'_>, effect: Effect) {
        // What this one has not, like a translation, is not that of the one before.
        self.expect = Expect::default();
        if event.write_to(&mut self.expect).is_err() {
            self.counters.unknown += 1;
            return;
        }
        let expect = self.expect;
        if effect == Effect::CacheAndSend && event.what() != ExpectMessage::Destroy {
            self.expects_more(now, &expect);
        }
        if !self.wants(&expect) {
            self.counters.filtered += 1;
            return;
        }
        let expects = &mut self.caches.expects_internal;
        match (event.what(), effect) {
            (_, Effect::Follow) if expects.find(&self.expect).is_none() => {}
            (ExpectMessage::Destroy, Effect::Cache) => {
                if let Some(index) = expects.find(&self.expect) {
                    expects.remove(index);
                }
            }
            (ExpectMessage::Destroy, _) => {
                if let Some(index) = expects.find(&self.expect) {
                    expects.kill(index);
                }
            }
            (_, effect) => {
                let stored = expects.replace(&self.expect, now.secs);
                if let (Ok(stored), Effect::CacheAndSend) = (stored, effect) {
                    expects.mark_changed(stored.index);
                    if self.replicates {
                        self.kernel.read_if_inactive(now.at, stored.index, &expect);
                    }
                }
            }
        }
    }

    /// A helper found something in a packet of the master. It rewrites the packet next, and no
    /// event tells by how much that shifts what follows.
    fn expects_more(&mut self, now: Moment, expect: &Expect) {
        let zone = if expect.present.has(ExpectPresent::ZONE) { expect.zone } else { 0 };
        let internal = &mut self.caches.internal;
        if let Some(master) = internal.find(&expect.master, zone)
            && self.replicates
        {
            internal.mark_unread(master);
            if internal.has_unread() {
                self.kernel.read_soon(now.at);
            }
        }
    }

    /// Whether an expectation is replicated: its helper is listed, and its master passes the
    /// filter. The original asks for the master in its cache; but the kernel may tell of an
    /// expectation before it tells of the master.
    fn wants(&mut self, expect: &Expect) -> bool {
        let listed = match &self.expectations {
            Expectations::Off => false,
            Expectations::All => true,
            Expectations::Helpers(words) => words.iter().any(|word| {
                let name = expect.helper.as_bytes();
                name.get(..word.len()).is_some_and(|n| n.eq_ignore_ascii_case(word.as_bytes()))
            }),
        };
        if !listed || self.filter.is_empty() {
            return listed;
        }
        self.scratch.clear();
        self.scratch.orig = expect.master;
        self.scratch.present = Present::ORIG;
        self.filter.passes(&self.scratch)
    }
}
