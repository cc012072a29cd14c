//! The codec against the kernel itself: what it decodes and encodes again makes the same table.

#[cfg(test)]
mod tests {
    use proto_ctnl::{
        Content, Encoder, Expect, Flow, FlowMessage, Messages, Present, ProtoInfo, Status,
    };
    use shardtrack_tests::flows::{Without, marked, mixture};
    use shardtrack_tests::kernel::Kernel;
    use shardtrack_tests::need_root;
    use shardtrack_tests::netns::Netns;
    use shardtrack_tests::peer::BASE_RULES;
    use shardtrack_tests::snapshot::{Ignore, Snapshot, expectations};
    use shardtrack_tests::table::assert_same;

    const BUFFER: usize = 16 << 10;

    fn decoded(kernel: &mut Kernel) -> Vec<Flow> {
        let mut flows = Vec::new();
        kernel.read_whole(
            |batch| batch.dump(),
            |bytes| {
                let message = Messages::new(bytes).next().unwrap().unwrap();
                let Ok(Content::Flow(view)) = message.content() else {
                    panic!("not a flow: {bytes:02x?}");
                };
                assert_eq!(view.what(), FlowMessage::Dump);
                let mut flow = Flow::default();
                view.write_to(&mut flow).unwrap();
                flows.push(flow);
            },
        );
        // Masters before those they expected.
        flows.sort_by_key(Flow::is_related);
        flows
    }

    /// The request that makes a flow what a dump said it was.
    fn request_for(flow: &Flow) -> Flow {
        let mut request = *flow;
        let plain = flow.orig.inverted().unwrap();
        if flow.reply.dst != flow.orig.src || flow.reply.l4.b != plain.l4.b {
            (request.snat, request.spat) = (flow.reply.dst, flow.reply.l4.b);
            request.present.insert(Present::SNAT);
            if flow.orig.has_ports() {
                request.present.insert(Present::SPAT);
            }
        }
        if flow.reply.src != flow.orig.dst || flow.reply.l4.a != plain.l4.a {
            (request.dnat, request.dpat) = (flow.reply.src, flow.reply.l4.a);
            request.present.insert(Present::DNAT);
            if flow.orig.has_ports() {
                request.present.insert(Present::DPAT);
            }
        }
        request.reply = plain;
        request.status = flow.status.without(Status::EXPECTED);
        if let ProtoInfo::Tcp(tcp) = &mut request.protoinfo
            && let Some(flags) = &mut tcp.flags
        {
            for flags in flags {
                flags.mask = 0xff;
            }
        }
        request
    }

    /// Sends what `encode` writes, in blocks.
    fn submit<T>(
        kernel: &mut Kernel,
        items: &[T],
        mut encode: impl FnMut(&mut Encoder<'_>, &T, u32),
    ) {
        let mut buffer = vec![0; BUFFER];
        for block in items.chunks(40) {
            let mut encoder = Encoder::new(&mut buffer);
            for (item, seq) in block.iter().zip(0..) {
                encode(&mut encoder, item, seq);
            }
            encoder.ack_last();
            let failures = kernel.submit(encoder.bytes(), block.len() as u32 - 1);
            assert!(failures.is_empty(), "{failures:?}");
        }
    }

    #[test]
    fn a_table_survives_decoding_and_encoding() {
        need_root!();
        let (from, to) = (Netns::new("from"), Netns::new("to"));
        from.nft(BASE_RULES);
        to.nft(BASE_RULES);
        let (mut source, mut target) = (Kernel::of(&from), Kernel::of(&to));
        let mixture = mixture(5000, Without::default());
        source.create(&mixture.flows);
        source.expect(&mixture.expectations);
        let flows = decoded(&mut source);
        assert_eq!(flows.len(), mixture.flows.len());
        let requests: Vec<_> = flows.iter().map(request_for).collect();
        submit(&mut target, &requests, |encoder, flow, seq| {
            encoder.flow_create(flow, seq, false).unwrap();
        });
        let mut foreseen = Vec::new();
        source.read_whole(
            |batch| batch.dump_expectations(),
            |bytes| {
                let message = Messages::new(bytes).next().unwrap().unwrap();
                let Ok(Content::Expect(view)) = message.content() else {
                    panic!("not an expectation: {bytes:02x?}");
                };
                let mut expect = Expect::default();
                view.write_to(&mut expect).unwrap();
                foreseen.push(expect);
            },
        );
        submit(&mut target, &foreseen, |encoder, expect, seq| {
            encoder.expect_create(expect, seq, false).unwrap();
        });
        let here = Snapshot::of(&mut source, Ignore::default());
        let there = Snapshot::of(&mut target, Ignore::default());
        assert_same(("the source", &here.lines), ("the target", &there.lines));
        let apart = here.expiries_apart(&there, 10);
        assert!(apart.is_empty(), "{} expiries differ: {}", apart.len(), apart[0]);
        let here = expectations(&mut source);
        assert_eq!(here.len(), mixture.expectations.len());
        assert_same(("the source", &here), ("the target", &expectations(&mut target)));

        // Updated and deleted by either writer, the tables stay the same.
        let updates: Vec<_> = mixture.flows.iter().map(|flow| marked(flow, 0xabcd)).collect();
        source.update_at(&updates, 0);
        submit(&mut target, &updates, |encoder, flow, seq| {
            let mut flow = *flow;
            flow.present.remove(Present::HELPER);
            encoder.flow_update(&flow, seq, false).unwrap();
        });
        let half: Vec<_> = mixture.flows.iter().step_by(2).copied().collect();
        source.delete_at(&half, 0);
        submit(&mut target, &half, |encoder, flow, seq| {
            encoder.flow_delete(&flow.orig, flow.zone, None, seq, false).unwrap();
        });
        let here = Snapshot::of(&mut source, Ignore::default());
        let there = Snapshot::of(&mut target, Ignore::default());
        assert_eq!(here.lines.len(), mixture.flows.len() - half.len());
        assert_same(("the source", &here.lines), ("the target", &there.lines));
    }
}
