//! Reads the `Engine` section, which the original does not know. Its words are reserved nowhere.

use engine::config::Intake;

use super::parser::{Parse, Parser};
use super::token::{Class, Token};

/// Most shards.
pub const SHARDS_MAX: u32 = 64;
/// Least and most bytes for events not yet read.
const INTAKE_BUFFER: std::ops::RangeInclusive<u32> = 65_536..=1 << 30;
/// Most microseconds between two drains.
const LINGER_MAX: u32 = 1_000_000;

impl<'a> Parser<'a> {
    /// One item of the section.
    pub fn engine_item(&mut self, token: Token<'a>) -> Parse {
        if token.class != Class::Word {
            return self.unexpected(token);
        }
        match token.text {
            b"Shards" => {
                let value = self.number()?;
                if value == 0 || value > SHARDS_MAX {
                    return self.fail(format!("`Shards' must be [1, {SHARDS_MAX}]"));
                }
                self.settings.engine.shards = u8::try_from(value).ok();
            }
            b"CPUs" => return self.cpus(),
            b"Intake" => {
                let word = self.word()?;
                self.settings.engine.intake = match word.as_str() {
                    "auto" => Intake::Auto,
                    "ring" => Intake::Ring,
                    "filter" => Intake::Filter,
                    "single" => Intake::Single,
                    _ => return self.fail(format!("unknown intake `{word}'")),
                };
            }
            b"IntakeBuffer" => {
                let value = self.number()?;
                if !INTAKE_BUFFER.contains(&value) {
                    let (least, most) = (INTAKE_BUFFER.start(), INTAKE_BUFFER.end());
                    return self.fail(format!("`IntakeBuffer' must be [{least}, {most}]"));
                }
                self.settings.engine.intake_buffer_bytes = Some(value);
            }
            b"Linger" => {
                let value = self.number()?;
                if value > LINGER_MAX {
                    return self.fail(format!("`Linger' must be [0, {LINGER_MAX}]"));
                }
                self.settings.engine.linger_us = value;
            }
            b"EventsSysctl" => self.settings.events_sysctl = self.bool()?,
            _ => return self.unexpected(token),
        }
        Ok(())
    }

    /// Numbers and ranges joined by commas: `0,2`, `2-5`, `0-1,4`.
    fn cpus(&mut self) -> Parse {
        let mut cpus = Vec::new();
        loop {
            let first = self.cpu()?;
            let mut last = first;
            let mut token = self.peek();
            if token.class == Class::Signed && token.text.first() == Some(&b'-') {
                self.take();
                last = match super::lexer::number(&token.text[1..]) {
                    last if last <= u32::from(CPU_MAX) => last as u16,
                    _ => return self.cpu_range(),
                };
                token = self.peek();
            }
            if last < first {
                return self.cpu_range();
            }
            cpus.extend(first..=last);
            if token.class != Class::Symbol(b',') {
                break;
            }
            self.take();
        }
        self.settings.engine.cpus = cpus;
        Ok(())
    }

    fn cpu(&mut self) -> Parse<u16> {
        match self.number()? {
            cpu if cpu <= u32::from(CPU_MAX) => Ok(cpu as u16),
            _ => self.cpu_range(),
        }
    }

    fn cpu_range<T>(&mut self) -> Parse<T> {
        self.fail(format!("`CPUs' must be a list such as 0,2-5 of numbers up to {CPU_MAX}"))
    }
}

/// Highest number of a core.
const CPU_MAX: u16 = 1023;
