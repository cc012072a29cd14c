//! Reads the `Sync` and `Stats` sections.

use super::address;
use super::parser::{Parse, Parser};
use super::settings::{At, Link, LinkKind, STATS_LOG_FILE, Stats, Sync, path};
use super::token::{Class, ModeName, Token};

/// Most links.
const LINKS_MAX: usize = 4;

impl<'a> Parser<'a> {
    /// What follows the word `Sync`.
    pub fn sync_section(&mut self) -> Parse {
        self.sync();
        self.block(Self::sync_item)
    }

    /// What follows the word `Stats`, which stands in `line`.
    pub fn stats_section(&mut self, line: u32) -> Parse {
        self.settings.stats.get_or_insert(At { value: Stats::default(), line });
        self.block(|parser, token| match token.reserved() {
            "LogFile" => {
                let file = parser.log_file(STATS_LOG_FILE, "stats LogFile")?;
                if let Some(stats) = &mut parser.settings.stats {
                    stats.value.log_file = file.map(path);
                }
                Ok(())
            }
            "Syslog" => {
                let now = parser.settings.stats.as_ref().and_then(|stats| stats.value.syslog);
                let facility = parser.syslog(now, parser.settings.syslog, ".")?;
                if let Some(stats) = &mut parser.settings.stats {
                    stats.value.syslog = facility;
                }
                Ok(())
            }
            _ => parser.unexpected(token),
        })
    }

    fn sync(&mut self) -> &mut Sync {
        self.settings.sync.get_or_insert_default()
    }

    fn sync_item(&mut self, token: Token<'a>) -> Parse {
        match token.reserved() {
            "Mode" => self.mode(token.place.line),
            "Multicast" => self.link(LinkKind::Multicast, token.place.line),
            "UDP" => self.link(LinkKind::Udp, token.place.line),
            "TCP" => self.link(LinkKind::Tcp, token.place.line),
            "Options" => self.block(Self::option),
            _ => self.timer(token),
        }
    }

    fn timer(&mut self, token: Token<'a>) -> Parse {
        match token.reserved() {
            "RefreshTime" => self.sync().refresh_secs = self.number_or(60)?,
            "CacheTimeout" => self.sync().cache_secs = self.number_or(180)?,
            "CommitTimeout" => self.sync().commit_secs = self.number()?,
            "PurgeTimeout" => self.sync().purge_secs = self.number_or(60)?,
            _ => return self.unexpected(token),
        }
        Ok(())
    }

    fn mode(&mut self, line: u32) -> Parse {
        let token = self.take();
        let Class::Mode(mode) = token.class else {
            return self.unexpected(token);
        };
        self.sync().modes[mode as usize] = Some(line);
        self.item.word = match mode {
            ModeName::Alarm => "ALARM",
            ModeName::Ftfw => "FTFW",
            ModeName::Notrack => "NOTRACK",
        };
        self.block(|parser, token| parser.mode_item(mode, token))
    }

    fn mode_item(&mut self, mode: ModeName, token: Token<'a>) -> Parse {
        let (ftfw, notrack) = (mode == ModeName::Ftfw, mode == ModeName::Notrack);
        match token.reserved() {
            "CommitTimeout" | "PurgeTimeout" => return self.timer(token),
            "RefreshTime" | "CacheTimeout" if mode == ModeName::Alarm => return self.timer(token),
            "ResendQueueSize" if ftfw => self.sync().resend_queue = self.number_or(131_072)?,
            "ACKWindowSize" if ftfw => self.sync().ack_window = self.number_or(300)?,
            "DisableInternalCache" if notrack => {
                let value = self.bool()?;
                self.sync().disable_internal_cache = At { value, line: token.place.line };
            }
            "DisableExternalCache" if ftfw || notrack => {
                self.sync().disable_external_cache = self.bool()?;
            }
            "StartupResync" if ftfw || notrack => {
                self.sync().startup_resync = Some(self.bool()?);
            }
            _ => return self.unexpected(token),
        }
        Ok(())
    }

    fn option(&mut self, token: Token<'a>) -> Parse {
        match token.reserved() {
            "TCPWindowTracking" => {
                self.sync().tcp_window_tracking = self.bool()?;
                Ok(())
            }
            "ExpectationSync" => self.expectation_sync(),
            _ => self.unexpected(token),
        }
    }

    fn expectation_sync(&mut self) -> Parse {
        let token = self.take();
        match token.class {
            Class::Bool(on) => {
                let sync = self.sync();
                sync.expectations = on;
                if !on {
                    sync.expectation_helpers.clear();
                }
                Ok(())
            }
            Class::Symbol(b'{') => {
                self.sync().expectations = true;
                self.items(|parser, token| {
                    if token.class != Class::Word {
                        return parser.unexpected(token);
                    }
                    let name = token.string();
                    let helpers = &mut parser.sync().expectation_helpers;
                    if !helpers.contains(&name) {
                        helpers.push(name);
                    }
                    Ok(())
                })
            }
            _ => self.unexpected(token),
        }
    }

    fn link(&mut self, kind: LinkKind, line: u32) -> Parse {
        let mut token = self.take();
        let is_default = token.reserved() == "Default";
        if is_default {
            token = self.take();
        }
        if token.class != Class::Symbol(b'{') {
            return self.unexpected(token);
        }
        let mut link = Link::new(kind, line);
        self.items(|parser, token| parser.link_item(&mut link, token))?;
        self.refuse_fifth_link()?;
        if self.sync().links.iter().any(|other| other.kind != kind) {
            let name = kind.name();
            return self.fail(format!("cannot use `{name}' with other dedicated link protocols!"));
        }
        let sync = self.sync();
        if is_default {
            sync.default_link = sync.links.len();
        }
        sync.links.push(link);
        Ok(())
    }

    fn refuse_fifth_link(&mut self) -> Parse {
        if self.sync().links.len() >= LINKS_MAX {
            return self.fail("too many dedicated links in the configuration file (Maximum: 4)");
        }
        Ok(())
    }

    fn link_item(&mut self, link: &mut Link, token: Token<'a>) -> Parse {
        let multicast = link.kind == LinkKind::Multicast;
        match token.reserved() {
            "IPv6_interface" if multicast => {
                self.address()?;
                self.warn_moot("`IPv6_interface' not required, ignoring");
                return Ok(());
            }
            "ErrorQueueLength" if link.kind == LinkKind::Tcp => {
                self.sync().error_queue = self.number_or(128)?;
                return Ok(());
            }
            name @ ("IPv4_address" | "IPv6_address" | "IPv4_interface") if multicast => {
                return self.multicast_address(link, name);
            }
            name @ ("IPv4_address"
            | "IPv6_address"
            | "IPv4_Destination_Address"
            | "IPv6_Destination_Address")
                if !multicast =>
            {
                return self.unicast_address(link, name);
            }
            "Interface" => return self.link_interface(link),
            "Group" if multicast => link.port = self.port()?,
            "Port" if !multicast => link.port = self.port()?,
            "SndSocketBuffer" => link.send_buffer = self.number()?,
            "RcvSocketBuffer" => link.receive_buffer = self.number()?,
            "Checksum" => link.checksum = self.bool()?,
            _ => return self.unexpected(token),
        }
        self.refuse_fifth_link()
    }

    /// A port, of which the original keeps the lower 16 bits.
    fn port(&mut self) -> Parse<u16> {
        let number = self.number()?;
        let port = (number & 0xffff) as u16;
        if number > u32::from(port) {
            let text = format!("there is no port {number}: {port} is used");
            self.note(text, "write a number from 1 to 65535");
        }
        Ok(port)
    }

    fn link_interface(&mut self, link: &mut Link) -> Parse {
        let name = self.word()?;
        self.refuse_fifth_link()?;
        let found = self.environment.has_interface(&name);
        if !found {
            self.warn(format!("{name} is an invalid interface"));
        }
        link.index_known |= found && link.ipv6 == Some(true);
        link.interface = Some(name);
        Ok(())
    }

    fn unicast_address(&mut self, link: &mut Link, name: &str) -> Parse {
        let text = self.address()?;
        self.refuse_fifth_link()?;
        if name.starts_with("IPv4") {
            let Some(address) = address::ipv4(&text) else {
                self.warn(format!("{text} is not a valid IPv4 address"));
                return Ok(());
            };
            link.ipv6 = Some(false);
            if name == "IPv4_address" { link.address_v4 = address } else { link.peer_v4 = address }
        } else {
            let Some(address) = address::ipv6(&text) else {
                self.warn(format!("{text} is not a valid IPv6 address"));
                return Ok(());
            };
            link.ipv6 = Some(true);
            if name == "IPv6_address" { link.address_v6 = address } else { link.peer_v6 = address }
        }
        Ok(())
    }

    fn multicast_address(&mut self, link: &mut Link, name: &str) -> Parse {
        let text = self.address()?;
        self.refuse_fifth_link()?;
        if name == "IPv6_address" {
            return self.multicast_address_v6(link, &text);
        }
        let Some(address) = address::ipv4(&text) else {
            self.warn(format!("{text} is not a valid IPv4 address"));
            return Ok(());
        };
        let what = if name == "IPv4_address" {
            link.address_v4 = address;
            "address"
        } else {
            link.interface_v4 = Some(address);
            "interface"
        };
        if link.ipv6 == Some(true) {
            link.mixed = true;
            self.warn(format!(
                "your multicast {what} is IPv4 but is binded to an IPv6 interface? \
                 Surely, this is not what you want"
            ));
        } else {
            link.ipv6 = Some(false);
        }
        Ok(())
    }

    fn multicast_address_v6(&mut self, link: &mut Link, text: &str) -> Parse {
        let Some(address) = address::ipv6(text) else {
            self.warn(format!("{text} is not a valid IPv6 address"));
            return Ok(());
        };
        link.address_v6 = address;
        if link.ipv6 == Some(false) {
            link.mixed = true;
            self.warn(
                "your multicast address is IPv6 but is binded to an IPv4 interface? \
                 Surely this is not what you want",
            );
            return Ok(());
        }
        link.ipv6 = Some(true);
        if link.interface.is_some() && !link.index_known {
            // The original looks the address up as if it were the device. It never exists.
            self.warn(format!("{text} is an invalid interface"));
        }
        Ok(())
    }
}
