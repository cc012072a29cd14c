//! The error numbers that the kernel's answers carry, with the texts operators know.

/// Not permitted.
pub const EPERM: i32 = 1;
/// No such entry, or no such master.
pub const ENOENT: i32 = 2;
/// Out of memory, or the table is full.
pub const ENOMEM: i32 = 12;
/// Forbidden change of the status, or another helper is attached.
pub const EBUSY: i32 = 16;
/// The entry exists, or its reply tuple belongs to another one.
pub const EEXIST: i32 = 17;
/// Something is missing or does not fit together.
pub const EINVAL: i32 = 22;
/// Too many expectations.
pub const EMFILE: i32 = 24;
/// The entry has no room for labels.
pub const ENOSPC: i32 = 28;
/// A value is out of range.
pub const ERANGE: i32 = 34;
/// The entry is dying.
pub const ETIME: i32 = 62;
/// Unknown helper, or a change that only a creation allows.
pub const EOPNOTSUPP: i32 = 95;
/// The request does not fit.
pub const EMSGSIZE: i32 = 90;
/// The answer was lost or never came.
pub const ETIMEDOUT: i32 = 110;

/// The text of an error number, as the C library has it for those that ctnetlink answers with.
pub fn text(errno: i32) -> std::borrow::Cow<'static, str> {
    std::borrow::Cow::Borrowed(match errno {
        EPERM => "Operation not permitted",
        ENOENT => "No such file or directory",
        ENOMEM => "Cannot allocate memory",
        EBUSY => "Device or resource busy",
        EEXIST => "File exists",
        EINVAL => "Invalid argument",
        EMFILE => "Too many open files",
        ENOSPC => "No space left on device",
        ERANGE => "Numerical result out of range",
        ETIME => "Timer expired",
        EMSGSIZE => "Message too long",
        EOPNOTSUPP => "Operation not supported",
        ETIMEDOUT => "Connection timed out",
        _ => return std::borrow::Cow::Owned(format!("Unknown error {errno}")),
    })
}
