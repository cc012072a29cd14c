//! How flows are shown: text, XML or command lines, as the output options say.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto_ctnl::Flow;
use proto_ctnl::render::{
    CivilTime, EventKind, Parts, Render, flow_json, flow_save, flow_text, flow_xml,
};

use crate::args::{Command, Output, Request};

/// The form in which flows and expectations are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Xml,
    Save,
    Json,
}

impl Form {
    pub(crate) const fn of(request: &Request) -> Self {
        if request.output.has(Output::XML) {
            Self::Xml
        } else if request.output.has(Output::JSON) {
            Self::Json
        } else if request.output.has(Output::SAVE) {
            Self::Save
        } else {
            Self::Text
        }
    }
}

/// Shows flows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Show<'a> {
    pub(crate) form: Form,
    pub(crate) render: Render<'a>,
}

impl<'a> Show<'a> {
    pub(crate) fn new(request: &'a Request) -> Self {
        let form = Form::of(request);
        let mut render = rendering(request);
        // What is removed is saved as a command that removes it.
        if request.command == Some(Command::Delete) && form == Form::Save {
            render.event = Some(EventKind::Destroy);
        }
        Self { form, render }
    }

    /// Appends a flow, without a newline.
    #[inline]
    pub(crate) fn flow(&self, flow: &Flow, out: &mut Vec<u8>) {
        match self.form {
            Form::Text => flow_text(flow, &self.render, out),
            Form::Xml => flow_xml(flow, &self.render, out),
            Form::Save => flow_save(flow, &self.render, out),
            Form::Json => flow_json(flow, &self.render, out),
        }
    }
}

/// What the output options say about rendering.
pub(crate) fn rendering(request: &Request) -> Render<'_> {
    let mut parts = Parts::LIST;
    let removes = request.command == Some(Command::Delete);
    let updates = request.command == Some(Command::Update);
    let json = request.output.has(Output::JSON);
    for (option, part) in [
        (Output::EXTENDED, Parts::LAYER3),
        (Output::ID, Parts::ID),
        (Output::KTIMESTAMP, Parts::KTIMESTAMP),
    ] {
        // As in the original, -D and -U tell no times; the new form does.
        let dropped = part == Parts::KTIMESTAMP && (removes || updates) && !json;
        if request.output.has(option) && !dropped {
            parts = parts.with(part);
        }
    }
    // As in the original, all commands but -D show labels whenever they know their names.
    let labels = request.label_names.as_deref().filter(|_| !removes || json);
    Render { parts, labels, now: Some(now().as_secs()), local_time, ..Render::default() }
}

/// Unix time.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn local_time(seconds: u64) -> CivilTime {
    let t = io::process::local_time(i64::try_from(seconds).unwrap_or(i64::MAX));
    CivilTime {
        year: t.year,
        month: t.month + 1,
        day: t.day,
        weekday: t.weekday,
        hour: t.hour,
        minute: t.minute,
        second: t.second,
    }
}
