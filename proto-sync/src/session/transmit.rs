//! What leaves: control messages first, then state as long as there is room, else a keepalive.

use std::time::Instant;

use zerocopy::{FromBytes, IntoBytes};

use super::{ALIVE_INTERVAL, Host, Machine, Next, Session};
use crate::frame::{HEADER_LEN, Header, RANGE_LEN, Ranged, TYPE_CONTROL, flag};
use crate::resend::Sent;

/// No message about a flow is shorter: header, IPv4 addresses, protocol. What is left of a datagram
/// beyond that is not worth an encoding.
const STATE_MIN: usize = 28;

impl Session {
    /// Fills `datagram`, which is as large as the link allows
    /// ([`datagram_max`](crate::datagram_max)), and gives the length used; `None` if there is
    /// nothing to send now. At most one datagram: call it until `None`.
    #[must_use]
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
        host: &mut impl Host,
    ) -> Option<usize> {
        self.common.paced = false;
        if datagram.len() < RANGE_LEN {
            return None;
        }
        if let Machine::Ftfw(ftfw) = &mut self.machine {
            ftfw.repeat(&mut self.common, now, host);
        }
        if self.common.pace.wait(now).is_some() {
            self.common.paced = true;
            return None;
        }
        let used = self.fill_control(now, datagram, host);
        let mut used = self.fill_state(now, datagram, used, host);
        if used == 0 && self.common.alive {
            used = self.put_alive(datagram, host);
        }
        if used == 0 {
            return None;
        }
        self.common.alive = false;
        self.common.alive_at = now + ALIVE_INTERVAL;
        self.common.pace.spend(now);
        self.common.counters.datagrams_sent += 1;
        Some(used)
    }

    /// Acknowledgements and requests.
    fn fill_control(&mut self, now: Instant, datagram: &mut [u8], host: &mut impl Host) -> usize {
        let mut used = 0;
        for cell in datagram.chunks_exact_mut(RANGE_LEN) {
            let range = match &mut self.machine {
                Machine::Ftfw(ftfw) => ftfw.next_control(),
                _ => None,
            };
            let counters = &mut self.common.counters;
            let (kind, from, to, sent) = match range {
                Some(r) if r.nack => {
                    counters.nacks_sent += 1;
                    (flag::NACK, r.from, r.to, Sent::Nack(r.from, r.to))
                }
                Some(r) => {
                    counters.acks_sent += 1;
                    (flag::ACK, r.from, r.to, Sent::Ack(r.from, r.to))
                }
                None if core::mem::take(&mut self.common.resync) => {
                    counters.resyncs_sent += 1;
                    if let Machine::Ftfw(ftfw) = &mut self.machine {
                        ftfw.asks_resync(now);
                    }
                    (flag::RESYNC, 0, 0, Sent::Resync)
                }
                None => break,
            };
            let (seq, flags) = self.number(Some(sent), kind, host);
            let header = Header::new(TYPE_CONTROL, flags, RANGE_LEN as u16, seq);
            let message = Ranged { header, from: from.into(), to: to.into() };
            cell.copy_from_slice(message.as_bytes());
            used += RANGE_LEN;
        }
        used
    }

    /// Changed objects, as many as fit and may be in flight.
    fn fill_state(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
        mut used: usize,
        host: &mut impl Host,
    ) -> usize {
        if let Machine::Ftfw(ftfw) = &mut self.machine {
            ftfw.unblock();
        }
        loop {
            if let Machine::Ftfw(ftfw) = &mut self.machine
                && !ftfw.may_send(&mut self.common, now)
            {
                return used;
            }
            let Some(room) = datagram.get_mut(used..) else { return used };
            if used > 0 && room.len() < STATE_MIN {
                return used;
            }
            let room_len = room.len();
            match host.next(room) {
                Next::Message { len, token } if len >= HEADER_LEN && len <= room_len => {
                    let (seq, flags) = self.number(Some(Sent::Object(token)), 0, host);
                    if let Ok((header, _)) = Header::mut_from_prefix(room) {
                        header.flags = flags;
                        header.seq = seq.into();
                    }
                    self.common.counters.state_sent += 1;
                    used += len;
                }
                // Not even alone: without this the object would block the others for ever.
                Next::NoRoom | Next::Message { .. } if used == 0 => {
                    self.common.counters.send_oversize += 1;
                    host.oversize();
                }
                _ => return used,
            }
        }
    }

    fn put_alive(&mut self, datagram: &mut [u8], host: &mut impl Host) -> usize {
        let (seq, flags) = self.number(None, flag::ALIVE, host);
        let header = Header::new(TYPE_CONTROL, flags, HEADER_LEN as u16, seq);
        match datagram.get_mut(..HEADER_LEN) {
            Some(cell) => {
                cell.copy_from_slice(header.as_bytes());
                HEADER_LEN
            }
            None => 0,
        }
    }

    /// The number and the flags of the next message; `sent` is what repeats it.
    fn number(&mut self, sent: Option<Sent>, kind: u8, host: &mut impl Host) -> (u32, u8) {
        let seq = self.common.take_seq();
        match &mut self.machine {
            Machine::Ftfw(ftfw) => {
                // Flags are those of now: an old HELLO on a repeated message would look like a
                // restart.
                let flags = kind | ftfw.next_flags();
                ftfw.sent(&mut self.common, seq, sent, flags, host);
                (seq, flags)
            }
            Machine::Notrack | Machine::Alarm => {
                if let Some(Sent::Object(token)) = sent {
                    host.acked(token);
                }
                (seq, kind)
            }
        }
    }
}
