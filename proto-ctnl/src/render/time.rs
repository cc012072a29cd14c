//! Calendar times in the renderings. The caller converts, because the time zone is not known here.

use super::addr::decimal;

/// A point in time as a calendar shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CivilTime {
    /// Year of the common era.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// Day of the week, 0 is Sunday.
    pub weekday: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
}

impl CivilTime {
    /// The time in UTC, `secs` after the epoch.
    pub fn utc(secs: u64) -> Self {
        const DAY: u64 = 86_400;
        let (days, rest) = (secs / DAY, secs % DAY);
        // Days since 0000-03-01, so that the leap day ends a year; 400 years are one era.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        Self {
            year: i32::try_from(year).unwrap_or(i32::MAX),
            month: month as u8,
            day: day as u8,
            weekday: ((days + 4) % 7) as u8,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
        }
    }

    /// Appends the form of `ctime(3)` without its newline: `Mon Nov 23 21:11:58 2026`.
    pub(super) fn ctime(&self, out: &mut Vec<u8>) {
        const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = usize::from(self.month).wrapping_sub(1);
        out.extend_from_slice(DAYS.get(usize::from(self.weekday)).unwrap_or(&"???").as_bytes());
        out.push(b' ');
        out.extend_from_slice(MONTHS.get(month).unwrap_or(&"???").as_bytes());
        out.push(b' ');
        if self.day < 10 {
            out.push(b' ');
        }
        decimal(self.day, out);
        out.push(b' ');
        two_digits(self.hour, out);
        out.push(b':');
        two_digits(self.minute, out);
        out.push(b':');
        two_digits(self.second, out);
        out.push(b' ');
        decimal(self.year, out);
    }

    /// Appends the `<when>` element of events.
    pub(super) fn xml_when(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<when><hour>");
        decimal(self.hour, out);
        out.extend_from_slice(b"</hour><min>");
        two_digits(self.minute, out);
        out.extend_from_slice(b"</min><sec>");
        two_digits(self.second, out);
        out.extend_from_slice(b"</sec><wday>");
        decimal(self.weekday + 1, out);
        out.extend_from_slice(b"</wday><day>");
        decimal(self.day, out);
        out.extend_from_slice(b"</day><month>");
        decimal(self.month, out);
        out.extend_from_slice(b"</month><year>");
        decimal(self.year, out);
        out.extend_from_slice(b"</year></when>");
    }
}

fn two_digits(n: u8, out: &mut Vec<u8>) {
    if n < 10 {
        out.push(b'0');
    }
    decimal(n, out);
}

/// Appends the digits of `n`, with zeros in front up to `width` characters.
pub(super) fn zero_padded(n: u64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(n).as_bytes();
    out.extend(core::iter::repeat_n(b'0', width.saturating_sub(digits.len())));
    out.extend_from_slice(digits);
}

/// Appends the digits of `n`, with blanks behind up to `width` characters.
pub(super) fn left_aligned(n: u64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(n).as_bytes();
    out.extend_from_slice(digits);
    out.extend(core::iter::repeat_n(b' ', width.saturating_sub(digits.len())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ctime(secs: u64) -> String {
        let mut out = Vec::new();
        CivilTime::utc(secs).ctime(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ctime_as_the_c_library_writes_it() {
        assert_eq!(ctime(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(ctime(951_782_400), "Tue Feb 29 00:00:00 2000");
        assert_eq!(ctime(1_795_468_318), "Mon Nov 23 21:11:58 2026");
        assert_eq!(ctime(4_107_542_399), "Sun Feb 28 23:59:59 2100");
        assert_eq!(ctime(4_107_542_400), "Mon Mar  1 00:00:00 2100");
    }
}
