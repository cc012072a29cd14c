//! What a fuzzer feeds: every decoder of outside bytes, with the laws that hold for any input.

use std::time::{Duration, Instant};

use proto_ctnl::{Expect, Flow};

use crate::{
    EncodeOptions, ExpectPayload, FLOW_MESSAGE_MAX, FlowLayouts, FlowPayload, HEADER_LEN, Host,
    Kind, Mode, Next, Reassembler, Session, SessionConfig, Token, encode_expect, encode_flow,
};

/// A host that sends `left` objects and takes what comes.
struct Sink {
    left: u32,
}

impl Host for Sink {
    fn flow(&mut self, kind: Kind, message: &[u8], payload: &FlowPayload<'_>) {
        assert!(message.len() >= HEADER_LEN && !kind.is_expect());
        let mut flow = Flow::default();
        payload.write_to(&mut flow);
    }

    fn expect(&mut self, kind: Kind, message: &[u8], payload: &ExpectPayload<'_>) {
        assert!(message.len() >= HEADER_LEN && kind.is_expect());
        let mut expect = Expect::default();
        payload.write_to(&mut expect);
    }

    fn next(&mut self, room: &mut [u8]) -> Next {
        let Some(left) = self.left.checked_sub(1) else { return Next::Empty };
        let options = EncodeOptions::default();
        let Some(len) = encode_flow(Kind::New, &Flow::default(), &options, room) else {
            return Next::NoRoom;
        };
        self.left = left;
        Next::Message { len, token: Token { index: left, ..Token::default() } }
    }

    fn oversize(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    fn acked(&mut self, _: Token) {}

    fn nacked(&mut self, _: Token) {
        self.left = self.left.saturating_add(1);
    }

    fn evicted(&mut self, _: Token) {}
}

fn sessions(now: Instant) -> [Session; 4] {
    let new = |mode| {
        let config = SessionConfig { mode, first_seq: 1, in_flight_max: 8, datagrams_per_ms: 0 };
        Session::new(&config, now)
    };
    [
        new(Mode::Notrack),
        new(Mode::Alarm),
        new(Mode::Ftfw { ack_window: 1, resend_queue: 4 }),
        new(Mode::Ftfw { ack_window: 300, resend_queue: 1000 }),
    ]
}

/// Any datagram, to every mode, and the answers.
pub fn datagram(bytes: &[u8]) {
    // Any instant does: nothing depends on when it is.
    let now = Instant::now();
    let mut out = [0; 1471];
    for mut session in sessions(now) {
        let mut sink = Sink { left: 20 };
        let mut at = now;
        for _ in 0..3 {
            session.handle_datagram(at, bytes, &mut sink);
            for _ in 0..64 {
                match session.poll_transmit(at, &mut out, &mut sink) {
                    Some(len) => assert!(len >= HEADER_LEN && len <= out.len()),
                    None => break,
                }
            }
            while session.poll_event().is_some() {}
            at += Duration::from_millis(1001);
            session.handle_timeout(at);
        }
    }
    payload(bytes);
}

/// Any octets as attributes: what was accepted survives another round, and is read the same by who
/// has learned its layout, or that of another payload of its length.
pub fn payload(bytes: &[u8]) {
    let mut layouts = FlowLayouts::new();
    let mut turned = bytes.to_vec();
    turned.rotate_left(bytes.len().min(4));
    for payload in [bytes, &turned, bytes, bytes] {
        let mut read = FlowPayload::EMPTY;
        let result = read.read(payload, &mut layouts);
        match FlowPayload::parse(payload) {
            Ok(parsed) => assert_eq!(format!("{read:?}"), format!("{parsed:?}")),
            Err(error) => assert_eq!(result, Err(error)),
        }
    }
    let options = EncodeOptions { window_tracking: true, timeout: true };
    let mut out = [0; FLOW_MESSAGE_MAX];
    if let Ok(payload) = FlowPayload::parse(bytes) {
        let mut first = Flow::default();
        payload.write_to(&mut first);
        let len = encode_flow(Kind::New, &first, &options, &mut out).expect("the longest fits");
        let mut second = Flow::default();
        FlowPayload::parse(&out[HEADER_LEN..len]).expect("own message").write_to(&mut second);
        let again = encode_flow(Kind::New, &second, &options, &mut [0; FLOW_MESSAGE_MAX]);
        assert_eq!(again, Some(len));
    }
    if let Ok(payload) = ExpectPayload::parse(bytes) {
        let mut first = Expect::default();
        payload.write_to(&mut first);
        let len = encode_expect(Kind::ExpectNew, &first, &options, &mut out);
        let len = len.expect("the longest fits");
        let mut second = Expect::default();
        ExpectPayload::parse(&out[HEADER_LEN..len]).expect("own message").write_to(&mut second);
    }
}

/// Any octets as a stream; the first says how it is cut.
pub fn stream(bytes: &[u8]) {
    let now = Instant::now();
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    for mut session in sessions(now) {
        let mut reassembler = Reassembler::new();
        let mut sink = Sink { left: 5 };
        for part in bytes.chunks(usize::from(cut) + 1) {
            if session.handle_stream(now, &mut reassembler, part, &mut sink).is_err() {
                reassembler.reset();
            }
            assert!(reassembler.pending() < usize::from(u16::MAX));
        }
    }
}
