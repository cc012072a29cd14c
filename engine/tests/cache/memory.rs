//! Octets per flow.

use engine::cache::{Cache, CacheConfig, Role};

use crate::flows::kernel_flow;

// As many as fill the chunks that the cache takes them in: what a last one has left is no cost of a flow.
const FLOWS: u32 = 6 << 15;

fn bytes_per_flow(limit: u32, ipv6: bool) -> usize {
    let mut cache = Cache::new(CacheConfig { limit, role: Role::Internal, seed: None });
    for n in 0..FLOWS {
        let stored = cache.replace(&kernel_flow(n, ipv6), n).unwrap();
        cache.mark_changed(stored.index);
    }
    assert_eq!(cache.len(), FLOWS);
    cache.allocated() / FLOWS as usize
}

#[test]
fn flows_stay_within_their_budget() {
    for limit in [FLOWS, 1 << 18] {
        let (v4, v6) = (bytes_per_flow(limit, false), bytes_per_flow(limit, true));
        println!("limit {limit}: IPv4 {v4}, IPv6 {v6}");
        assert!(v4 <= 112, "an IPv4 flow takes {v4} octets");
        assert!(v6 <= 144, "an IPv6 flow takes {v6} octets");
    }
}
