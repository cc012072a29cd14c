//! Reads `Filter` blocks.

use std::net::IpAddr;

use engine::config::{Network, Policy};

use super::address;
use super::parser::{Parse, Parser};
use super::token::{Class, Token};

impl<'a> Parser<'a> {
    /// What follows the word `Filter`.
    pub fn filter(&mut self) -> Parse {
        let mut token = self.take();
        self.settings.filter.kernelspace = false;
        if token.reserved() == "From" {
            let side = self.take();
            self.settings.filter.kernelspace = match side.reserved() {
                "Userspace" => false,
                "Kernelspace" => true,
                _ => return self.unexpected(side),
            };
            token = self.take();
        }
        if token.class != Class::Symbol(b'{') {
            return self.unexpected(token);
        }
        self.items(Self::filter_set)
    }

    fn filter_set(&mut self, token: Token<'a>) -> Parse {
        match token.reserved() {
            "Protocol" => {
                let policy = self.policy()?;
                let set = self.settings.filter.protocols.get_or_insert((policy, Vec::new()));
                set.0 = policy;
                self.block(Self::filter_protocol)
            }
            "Address" => {
                let policy = self.policy()?;
                let set = self.settings.filter.addresses.get_or_insert((policy, Vec::new()));
                set.0 = policy;
                self.block(Self::filter_address)
            }
            "State" => {
                let policy = self.policy()?;
                let set = self.settings.filter.tcp_states.get_or_insert((policy, Vec::new()));
                set.0 = policy;
                self.block(Self::filter_states)
            }
            _ => self.unexpected(token),
        }
    }

    fn policy(&mut self) -> Parse<Policy> {
        let token = self.take();
        match token.reserved() {
            "Accept" => Ok(Policy::Accept),
            "Ignore" => Ok(Policy::Ignore),
            _ => self.unexpected(token),
        }
    }

    fn filter_protocol(&mut self, token: Token<'a>) -> Parse {
        if token.class != Class::Word && !matches!(token.reserved(), "TCP" | "UDP") {
            return self.unexpected(token);
        }
        let name = token.string();
        match self.environment.protocol(&name) {
            Some(protocol) => add(&mut self.settings.filter.protocols, protocol),
            None => self
                .warn(format!("getprotobyname() cannot find protocol `{name}' in /etc/protocols")),
        }
        Ok(())
    }

    fn filter_address(&mut self, token: Token<'a>) -> Parse {
        let (ipv6, longest, kind) = match token.reserved() {
            "IPv4_address" => (false, 32, "IPv4"),
            "IPv6_address" => (true, 128, "IPv6"),
            _ => return self.unexpected(token),
        };
        let text = self.address()?;
        let (written, prefix) = address::split(&text);
        let prefix = prefix.unwrap_or(longest);
        if prefix > longest {
            self.warn(format!("{written}/{prefix} is not a valid network, ignoring"));
            return Ok(());
        }
        let parsed = match ipv6 {
            false => address::ipv4(written).map(IpAddr::V4),
            true => address::ipv6(written).map(IpAddr::V6),
        };
        let Some(address) = parsed else {
            self.warn(format!("{written} is not a valid {kind}, ignoring"));
            return Ok(());
        };
        let is_whole = prefix == longest;
        let prefix = u8::try_from(prefix).unwrap_or(u8::MAX);
        let network = Network { address, prefix };
        if self.networks.insert(network) {
            if let Some((_, list)) = &mut self.settings.filter.addresses {
                list.push(network);
            }
        } else if address.is_ipv4() && !is_whole {
            self.warn(format!("netmask {written} is repeated in the ignore pool"));
        }
        Ok(())
    }

    /// States up to `for TCP`, the first of which is `token`.
    fn filter_states(&mut self, mut token: Token<'a>) -> Parse {
        while token.reserved() != "for" {
            let state = match token.reserved() {
                "SYN_SENT" => 1,
                "SYN_RECV" => 2,
                "ESTABLISHED" => 3,
                "FIN_WAIT" => 4,
                "CLOSE_WAIT" => 5,
                "LAST_ACK" => 6,
                "TIME_WAIT" => 7,
                "CLOSE" | "CLOSED" => 8,
                "LISTEN" => 9,
                _ => return self.unexpected(token),
            };
            add(&mut self.settings.filter.tcp_states, state);
            token = self.take();
        }
        let protocol = self.take();
        match protocol.reserved() {
            "TCP" => Ok(()),
            _ => self.unexpected(protocol),
        }
    }
}

/// Adds a member to a set that was begun, of at most 256.
fn add<T: PartialEq>(set: &mut Option<(Policy, Vec<T>)>, member: T) {
    if let Some((_, members)) = set
        && !members.contains(&member)
    {
        members.push(member);
    }
}
