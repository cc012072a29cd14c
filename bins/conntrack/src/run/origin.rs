//! Which program caused an event: from the port of its netlink socket to its name.

use std::fs;
use std::path::Path;

use proto_ctnl::render::json_origin;

use crate::show::Form;

/// Protocol number of netfilter's netlink sockets in `/proc/net/netlink`.
const NETFILTER: &str = "12";

/// Looks programs up, and remembers the last one: events come in runs.
#[derive(Debug, Default)]
pub(super) struct Origins {
    last: Option<(u32, String)>,
}

impl Origins {
    /// Appends to an event which program caused it. The name is missing if that has gone by now.
    pub(super) fn append(&mut self, port: u32, form: Form, out: &mut Vec<u8>) {
        if form == Form::Xml {
            return;
        }
        if self.last.as_ref().is_none_or(|(p, _)| *p != port) {
            self.last = program(port).map(|name| (port, name));
        }
        let name = self.last.as_ref().map(|(_, name)| name.as_bytes());
        if form == Form::Json {
            json_origin(port, name, out);
            return;
        }
        out.extend_from_slice(b" [USERSPACE] portid=");
        proto_ctnl::render::decimal(port, out);
        if let Some(name) = name {
            out.extend_from_slice(b" progname=");
            out.extend_from_slice(name);
        }
    }
}

fn program(port: u32) -> Option<String> {
    let link = format!("socket:[{}]", inode(port)?);
    // The first socket of a process has its number as the port.
    if holds(&Path::new("/proc").join(port.to_string()), &link) {
        return name(port);
    }
    let processes = fs::read_dir("/proc").ok()?;
    let mut numbers = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid > 1);
    let pid = numbers.find(|pid| holds(&Path::new("/proc").join(pid.to_string()), &link))?;
    name(pid)
}

/// The inode of the netlink socket with that port.
fn inode(port: u32) -> Option<String> {
    let list = fs::read_to_string("/proc/net/netlink").ok()?;
    list.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let matches = columns.get(1) == Some(&NETFILTER)
            && columns.get(2).and_then(|p| p.parse().ok()) == Some(port);
        if matches { columns.last().map(|&inode| inode.to_owned()) } else { None }
    })
}

fn holds(process: &Path, link: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|target| target.as_os_str() == link)
}

/// The name between the parentheses of `/proc/PID/stat`.
fn name(pid: u32) -> Option<String> {
    let stat = fs::read(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (begin, end) = (stat.find('(')?, stat.rfind(')')?);
    stat.get(begin + 1..end).map(str::to_owned)
}
