//! Small questions to the system.

use rustix::net::{AddressFamily, SocketType, netdevice, socket};

/// The index of a network device in the namespace of the process.
pub fn interface_index(name: &str) -> Option<u32> {
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(any, name).ok()
}

/// What the system calls an error, without its number.
pub fn error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
