//! Kernel parameters, by their paths below `/proc/sys`.
//!
//! Those of a network namespace are the ones of the calling thread's.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use crate::error::IoError;

const ROOT: &str = "/proc/sys";

/// Reads a parameter, without the line's end. `path` is like `net/netfilter/nf_conntrack_max`.
///
/// # Errors
/// If there is none, or it may not be read.
pub fn read(path: &str) -> Result<String, IoError> {
    let file = Path::new(ROOT).join(path);
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(error) => Err(IoError::new("read the kernel parameter", path, error)),
    }
}

/// Writes a parameter.
///
/// # Errors
/// If there is none, it may not be written, or the kernel refuses the value.
pub fn write(path: &str, value: impl Display) -> Result<(), IoError> {
    let file = Path::new(ROOT).join(path);
    // Opened for writing only: a parameter is never made.
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(file)
        .map_err(|error| IoError::new("write the kernel parameter", path, error))?;
    std::io::Write::write_all(&mut file, value.to_string().as_bytes())
        .map_err(|error| IoError::new("write the kernel parameter", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_without_the_end_of_the_line() {
        assert_eq!(read("kernel/ostype").unwrap(), "Linux");
    }

    #[test]
    fn names_what_is_not_there() {
        let error = write("net/no_such_parameter", 1).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("write the kernel parameter net/no_such_parameter: "), "{text}");
    }
}
