//! Reads the `Helper` section.

use super::parser::{Parse, Parser};
use super::settings::{Helper, Policy};
use super::token::{Place, Token};

/// Longest name of a policy in bytes.
const POLICY_NAME_MAX: usize = 16;

/// The helpers there are and the protocols they help. Each knows one policy of its own name.
const HELPERS: [(&str, &str); 12] = [
    ("amanda", "udp"),
    ("dhcpv6", "udp"),
    ("ftp", "tcp"),
    ("mdns", "udp"),
    ("rpc", "tcp"),
    ("rpc", "udp"),
    ("sane", "tcp"),
    ("slp", "udp"),
    ("ssdp", "tcp"),
    ("ssdp", "udp"),
    ("tftp", "udp"),
    ("tns", "tcp"),
];

/// A setting that waits for the next `Type` block to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackItem {
    /// `QueueNum`.
    QueueNum(u32),
    /// `QueueLen`.
    QueueLen(u32),
    /// `Policy`.
    Policy(Policy),
}

impl<'a> Parser<'a> {
    /// An item of the section itself.
    pub fn helper_section_item(&mut self, token: Token<'a>) -> Parse {
        if token.reserved() == "Setup" {
            self.settings.helper_setup = self.bool()?;
            return Ok(());
        }
        self.helper_item(token)
    }

    fn helper_item(&mut self, token: Token<'a>) -> Parse {
        match token.reserved() {
            "Type" => self.helper_type(token.place),
            "QueueNum" => {
                let value = self.number()?;
                self.helper_stack.push(StackItem::QueueNum(value));
                Ok(())
            }
            "QueueLen" => {
                let value = self.number()?;
                self.helper_stack.push(StackItem::QueueLen(value));
                Ok(())
            }
            "Policy" => self.helper_policy(),
            _ => self.unexpected(token),
        }
    }

    fn helper_type(&mut self, place: Place) -> Parse {
        let name = self.word()?;
        let layer3 = self.word()?;
        let layer4 = self.word()?;
        self.enter()?;
        // Types may nest, so a file could otherwise choose how deep the stack grows.
        let mut open = vec![(name, layer3, layer4, place)];
        while let Some((name, layer3, layer4, place)) = open.last() {
            let token = self.take();
            if self.leaves(token) {
                let (name, layer3, layer4, place) =
                    (name.clone(), layer3.clone(), layer4.clone(), *place);
                self.close_helper_type(name, &layer3, &layer4, place)?;
                open.pop();
                continue;
            }
            self.begin(token);
            if token.reserved() == "Type" {
                let (name, layer3, layer4) = (self.word()?, self.word()?, self.word()?);
                self.enter()?;
                open.push((name, layer3, layer4, token.place));
            } else {
                self.helper_item(token)?;
            }
        }
        Ok(())
    }

    fn close_helper_type(
        &mut self,
        name: String,
        layer3: &str,
        layer4: &str,
        place: Place,
    ) -> Parse {
        let ipv6 = match layer3 {
            "inet" => false,
            "inet6" => true,
            _ => return self.fail("unknown layer 3 protocol"),
        };
        let protocol = match layer4 {
            "tcp" => 6,
            "udp" => 17,
            _ => return self.fail("unknown layer 4 protocol"),
        };
        if !HELPERS.contains(&(name.as_str(), layer4)) {
            return self.fail(format!("Unknown `{name}' helper"));
        }
        let mut helper = Helper {
            name,
            place,
            ipv6,
            protocol,
            queue_num: 0,
            queue_len: 0,
            policies: Vec::new(),
        };
        while let Some(item) = self.helper_stack.pop() {
            match item {
                StackItem::QueueNum(value) => helper.queue_num = value,
                StackItem::QueueLen(value) => helper.queue_len = value,
                StackItem::Policy(policy) if policy.name != helper.name => {
                    let name = policy.name;
                    return self.fail(format!("Unknown policy `{name}' in helper configuration"));
                }
                StackItem::Policy(policy) => helper.policies.push(policy),
            }
        }
        self.settings.helpers.push(helper);
        Ok(())
    }

    fn helper_policy(&mut self) -> Parse {
        let mut policy = Policy { name: self.word()?, ..Policy::default() };
        let mut empty = true;
        self.block(|parser, token| {
            match token.reserved() {
                "ExpectMax" => policy.max = parser.number()?,
                "ExpectTimeout" => policy.timeout_secs = parser.number()?,
                _ => return parser.unexpected(token),
            }
            empty = false;
            Ok(())
        })?;
        if empty {
            return self
                .fail("Helper policy configuration empty, fix your configuration file, please");
        }
        if policy.name.len() > POLICY_NAME_MAX {
            return self.fail("Helper Policy is longer than 16 characters");
        }
        self.helper_stack.push(StackItem::Policy(policy));
        Ok(())
    }
}
