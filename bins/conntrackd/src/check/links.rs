//! The links: devices, addresses, peers, ports and buffers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use io::{DeviceAddress, IPV6_MTU_MIN, Interface, buffers_granted, device_addresses};

use super::Findings;
use crate::conf::outline::{Entry, Outline};
use crate::conf::settings::{Link, LinkKind, Sync};
use crate::conf::token::Place;
use crate::conf::vocabulary::meant;

/// Least MTU in octets at which a packet carries several flows.
const MTU_LOW: u32 = 576;
/// Least MTU in octets at which a flow never takes more than a packet, whose headers over IPv6 are
/// the longest.
const MTU_ONE: u32 = proto_sync::FLOW_MESSAGE_MAX as u32 + 48;

pub(super) fn check(sync: &Sync, outline: &Outline, findings: &mut Findings) {
    let machine = device_addresses().unwrap_or_default();
    let outlines = outline.links();
    if sync.links.is_empty() {
        findings.error(
            outline.find(&["Sync"]),
            "there is no link to the other node",
            "add a block `UDP', `Multicast' or `TCP'",
        );
    }
    for (number, (link, items)) in sync.links.iter().zip(&outlines).enumerate() {
        let mut check = Check { link, items, machine: &machine, addressed: false, findings };
        check.device();
        check.address();
        check.peer();
        check.port();
        check.buffers();
        let before = sync.links.iter().take(number).collect::<Vec<_>>();
        check.others(&before);
    }
}

struct Check<'a> {
    link: &'a Link,
    /// The block's first word and its items.
    items: &'a [Entry],
    machine: &'a [DeviceAddress],
    /// Whether there is a device that can have addresses of the link's family. Else no more is to be
    /// said of what it has not.
    addressed: bool,
    findings: &'a mut Findings,
}

impl Check<'_> {
    /// Where the last of the items stands that begin with one of these words, or the block.
    fn at(&self, words: &[&str]) -> Option<Place> {
        let item = self.items.iter().rev().find(|item| words.contains(&item.word.as_str()));
        item.or(self.items.first()).map(|item| item.place)
    }

    fn is_ipv6(&self) -> bool {
        self.link.ipv6 == Some(true)
    }

    /// What the address of the link's family is called.
    fn name(&self, v4: &'static str, v6: &'static str) -> &'static str {
        if self.is_ipv6() { v6 } else { v4 }
    }

    fn choose(&self, v4: impl Into<IpAddr>, v6: impl Into<IpAddr>) -> IpAddr {
        if self.is_ipv6() { v6.into() } else { v4.into() }
    }

    fn local(&self) -> IpAddr {
        self.choose(self.link.address_v4, self.link.address_v6)
    }

    fn device(&mut self) {
        let place = self.at(&["Interface"]);
        let devices: BTreeSet<_> = self.machine.iter().map(|one| one.device.as_str()).collect();
        let names: Vec<_> = devices.into_iter().collect();
        let devices = names.join(", ");
        let Some(name) = &self.link.interface else {
            let advice = format!("add `Interface' with one of: {devices}");
            return self.findings.error(place, "the link has no `Interface'", advice);
        };
        let Ok(device) = Interface::by_name(name) else {
            let text = format!("there is no device `{name}' here");
            let advice = match meant(name, &names) {
                Some(near) => format!("did you mean `{near}'? There are: {devices}"),
                None => format!("use one of: {devices}"),
            };
            return self.findings.error(place, text, advice);
        };
        if !device.is_up() {
            let text = format!("the device `{name}' is switched off");
            self.findings.warning(place, text, format!("ip link set {name} up"));
        } else if !device.is_running() {
            let text = format!("the device `{name}' has no carrier");
            self.findings.warning(place, text, "look at the cable, the port and the other node");
        }
        let mtu = device.mtu();
        self.addressed = !self.is_ipv6() || mtu >= IPV6_MTU_MIN;
        let advice = format!("ip link set {name} mtu 1500, on both nodes");
        if !self.addressed {
            let text = format!(
                "the MTU of `{name}' is {mtu}: IPv6 needs {IPV6_MTU_MIN}, and the device loses its \
                 addresses"
            );
            self.findings.error(place, text, advice);
        } else if mtu < MTU_LOW {
            let what = if mtu < MTU_ONE {
                "a flow may take several packets"
            } else {
                "a packet carries few flows"
            };
            let text = format!("the MTU of `{name}' is {mtu}: {what}");
            self.findings.warning(place, text, advice);
        }
        if self.link.kind == LinkKind::Multicast && !device.is_multicast() {
            let text = format!("the device `{name}' cannot multicast");
            self.findings.error(
                place,
                text,
                format!("ip link set {name} multicast on, or use UDP"),
            );
        }
    }

    /// The devices that have an address.
    fn devices_of(&self, address: IpAddr) -> Vec<&str> {
        let has = |one: &&DeviceAddress| one.address.is_some_and(|(other, _)| other == address);
        self.machine.iter().filter(has).map(|one| one.device.as_str()).collect()
    }

    fn address(&mut self) {
        if self.link.kind == LinkKind::Multicast {
            return self.group();
        }
        let word = self.name("IPv4_address", "IPv6_address");
        let place = self.at(&[word]);
        let local = self.local();
        if local.is_unspecified() {
            let advice = format!("set `{word}' to this node's address on the link");
            let text = format!("without `{word}' everybody who reaches this node can send to it");
            return self.findings.warning(place, text, advice);
        }
        let devices = self.devices_of(local);
        let Some(wanted) = &self.link.interface else { return };
        match devices.first() {
            None if !self.addressed => {}
            None => {
                let text = format!("{local} is no address of this node");
                let advice = format!("ip addr add {local}/PREFIX dev {wanted}, or correct it");
                self.findings.error(place, text, advice);
            }
            Some(device) if !devices.contains(&wanted.as_str()) => {
                let text = format!("{local} is an address of `{device}', not of `{wanted}'");
                let advice = format!("set `Interface' to {device}, or correct the address");
                self.findings.warning(place, text, advice);
            }
            Some(_) => {}
        }
    }

    fn group(&mut self) {
        let word = self.name("IPv4_address", "IPv6_address");
        let place = self.at(&[word]);
        let group = self.local();
        if self.link.mixed {
            let text = "the link mixes IPv4 and IPv6";
            self.findings.error(place, text, "use addresses of one family in it");
        } else if !group.is_multicast() {
            let example = if self.is_ipv6() { "ff15::50" } else { "225.0.0.50" };
            let text = format!("{group} is no group address");
            self.findings.error(place, text, format!("set `{word}' to a group such as {example}"));
        }
        if let (Some(own), Some(device)) = (self.link.interface_v4, &self.link.interface)
            && !self.devices_of(own.into()).contains(&device.as_str())
        {
            let place = self.at(&["IPv4_interface"]);
            let text = format!("{own} is no address of `{device}'");
            let advice = format!("set `IPv4_interface' to this node's address on {device}");
            self.findings.error(place, text, advice);
        }
    }

    fn peer(&mut self) {
        if self.link.kind == LinkKind::Multicast {
            return;
        }
        let word = self.name("IPv4_Destination_Address", "IPv6_Destination_Address");
        let place = self.at(&[word]);
        let peer = self.choose(self.link.peer_v4, self.link.peer_v6);
        let advice = format!("set `{word}' to the other node's address on the link");
        if peer.is_unspecified() {
            return self.findings.error(place, format!("the link has no `{word}'"), advice);
        }
        if peer == self.local() || !self.devices_of(peer).is_empty() {
            return self.findings.error(place, format!("the peer {peer} is this node"), advice);
        }
        if peer.is_multicast() {
            return self.findings.error(place, format!("{peer} is a group address"), advice);
        }
        let Some(device) = &self.link.interface else { return };
        let reaches = |one: &DeviceAddress| {
            one.device == *device && one.address.is_some_and(|own| is_neighbour(own, peer))
        };
        if self.addressed && !self.machine.iter().any(reaches) {
            let text = format!("{peer} is in no network of `{device}': it is reached by a router");
            let advice = format!("give `{device}' an address in the network of {peer}");
            self.findings.warning(place, text, advice);
        }
        let other_is_unused = if self.is_ipv6() {
            self.link.address_v4.is_unspecified() && self.link.peer_v4.is_unspecified()
        } else {
            self.link.address_v6.is_unspecified() && self.link.peer_v6.is_unspecified()
        };
        if !other_is_unused {
            let family = self.name("IPv4", "IPv6");
            let text = format!("the link has addresses of both families: only {family} is used");
            self.findings.warning(self.at(&[]), text, "remove those of the other");
        }
    }

    fn port(&mut self) {
        let word = if self.link.kind == LinkKind::Multicast { "Group" } else { "Port" };
        if self.link.port == 0 {
            let place = self.at(&[word]);
            let text = format!("the link has no `{word}'");
            let advice = format!("set `{word}' to a number from 1 to 65535, such as 3780");
            self.findings.error(place, text, advice);
        }
    }

    fn buffers(&mut self) {
        let (receive, send) = (self.link.receive_buffer, self.link.send_buffer);
        let Ok(granted) = buffers_granted(receive, send) else { return };
        let both = [
            ("RcvSocketBuffer", receive, granted.0, "net.core.rmem_max"),
            ("SndSocketBuffer", send, granted.1, "net.core.wmem_max"),
        ];
        for (word, asked, granted, limit) in both {
            if granted < asked {
                let place = self.at(&[word]);
                let text = format!("this process gets {granted} octets of `{word}' {asked}");
                let advice =
                    format!("start the daemon with CAP_NET_ADMIN, or sysctl {limit}={asked}");
                self.findings.warning(place, text, advice);
            }
        }
    }

    /// This link beside those before it.
    fn others(&mut self, before: &[&Link]) {
        let same_device = |other: &&&Link| other.interface == self.link.interface;
        if let (Some(device), Some(other)) = (&self.link.interface, before.iter().find(same_device))
        {
            let text = format!("`{device}' carries the link of line {} already", other.line);
            let place = self.at(&["Interface"]);
            self.findings.warning(place, text, "they fail together: use another device");
        }
        let same_place = |other: &&&Link| {
            (other.port, other.ipv6, other.address_v4, other.address_v6)
                == (self.link.port, self.link.ipv6, self.link.address_v4, self.link.address_v6)
        };
        if let Some(other) = before.iter().find(same_place) {
            let text = format!("address and port are those of the link of line {}", other.line);
            let place = self.at(&["Port", "Group"]);
            self.findings.error(place, text, "give each link an address or a port of its own");
        }
    }
}

/// Whether `other` is in the network of an address with its prefix.
fn is_neighbour((own, prefix): (IpAddr, u8), other: IpAddr) -> bool {
    let same = |own: u128, other: u128, length: u32| {
        let shift = length.saturating_sub(u32::from(prefix));
        (own ^ other).checked_shr(shift).unwrap_or(0) == 0
    };
    match (own, other) {
        (IpAddr::V4(own), IpAddr::V4(other)) => {
            same(own.to_bits().into(), other.to_bits().into(), 32)
        }
        (IpAddr::V6(own), IpAddr::V6(other)) => same(own.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_the_prefix() {
        let near = |own: &str, prefix, other: &str| {
            is_neighbour((own.parse().unwrap(), prefix), other.parse().unwrap())
        };
        assert!(near("10.0.0.1", 24, "10.0.0.200"));
        assert!(!near("10.0.0.1", 24, "10.0.1.1"));
        assert!(near("10.0.0.1", 0, "192.0.2.1"));
        assert!(!near("10.0.0.1", 32, "10.0.0.2"));
        assert!(near("fe80::1", 64, "fe80::2"));
        assert!(!near("fe80::1", 64, "10.0.0.1"));
        assert!(near("::1", 0, "fd00::1"));
    }
}
