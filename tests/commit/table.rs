//! What of a flow, or of an expectation, is in the other node's kernel after a commit. The manual
//! of the daemon has the same for people; a test compares the two.

/// What becomes of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is as it was.
    Restored,
    /// It is as it was, less the seconds that passed.
    Counted,
    /// It is as it was with `TCPWindowTracking on`, else not.
    WithWindows,
    /// Something else begins anew.
    Anew,
    /// It differs.
    Lost,
    /// No flow of the test has it.
    Unseen,
}

/// A row. The first one that fits an object's kind and attribute holds.
pub(crate) struct Row {
    /// `expectation`, or the kinds of flow; empty for all flows.
    pub(crate) kinds: &'static [&'static str],
    /// As [`crate::attributes`] names it.
    pub(crate) attribute: &'static str,
    pub(crate) fate: Fate,
    /// Why it is not restored; the manual says the same.
    pub(crate) reason: &'static str,
}

const fn flow(attribute: &'static str, fate: Fate, reason: &'static str) -> Row {
    Row { kinds: &[], attribute, fate, reason }
}

const fn expectation(attribute: &'static str, fate: Fate, reason: &'static str) -> Row {
    Row { kinds: &["expectation"], attribute, fate, reason }
}

const fn of(
    kinds: &'static [&'static str],
    attribute: &'static str,
    fate: Fate,
    reason: &'static str,
) -> Row {
    Row { kinds, attribute, fate, reason }
}

use Fate::{Anew, Counted, Lost, Restored, Unseen, WithWindows};

/// The table.
pub(crate) const TABLE: &[Row] = &[
    // The tuples, and with them what is translated.
    flow("original addresses", Restored, ""),
    flow("reply addresses", Restored, ""),
    of(&["udplite"], "ports", Lost, "the protocol between nodes does not carry them"),
    of(&["gre"], "keys", Lost, "the protocol between nodes does not carry them"),
    of(&["udplite"], "reply ports", Lost, "the protocol between nodes does not carry them"),
    of(&["gre"], "reply keys", Lost, "the protocol between nodes does not carry them"),
    flow("ports", Restored, ""),
    flow("reply ports", Restored, ""),
    flow("ICMP type, code and id", Restored, ""),
    flow("reply ICMP type, code and id", Restored, ""),
    flow("zone", Restored, ""),
    flow("zone of one direction", Lost, "the protocol between nodes does not carry it"),
    // The status.
    flow("expected", Restored, ""),
    flow("seen reply", Restored, ""),
    flow("assured", Restored, ""),
    flow("confirmed", Restored, ""),
    flow("source translated", Restored, ""),
    flow("destination translated", Restored, ""),
    flow("translation decided", Restored, ""),
    flow(
        "no translation decided",
        Lost,
        "without a reply yet, a flow is looked up in the rules anew",
    ),
    flow("sequence numbers adjusted", Restored, ""),
    flow("fixed timeout", Restored, ""),
    flow("helped", Restored, ""),
    // Protocols.
    flow("TCP state", Restored, ""),
    flow("TCP window scales", WithWindows, "windows are not checked: nobody saw the segments"),
    flow(
        "TCP flags",
        Lost,
        "the kernel is told not to check windows, or only that scales are known",
    ),
    flow("SCTP state", Restored, ""),
    flow("SCTP verification tags", Restored, ""),
    // The rest.
    flow("timeout", Counted, ""),
    flow("mark", Restored, ""),
    flow("labels", Restored, ""),
    flow("helper", Restored, ""),
    flow("helper data", Unseen, "only helpers in user space have it, and it stays with them"),
    flow("master", Restored, ""),
    flow("sequence adjustment", Restored, ""),
    flow("SYN proxy", Restored, ""),
    flow("counters", Lost, "the kernel counts itself and takes no numbers"),
    flow("start time", Lost, "the kernel takes none: the flow starts with the commit"),
    flow("identifier", Lost, "each kernel gives its own"),
    flow("security mark", Unseen, "rules of a security module set it on each node"),
    flow("security context", Unseen, "rules of a security module set it on each node"),
    // Expectations.
    expectation("master", Restored, ""),
    expectation("expected tuple", Restored, ""),
    expectation("mask", Restored, ""),
    expectation("timeout", Anew, "that of the helper begins anew: the kernel takes no other"),
    expectation("flags", Restored, ""),
    expectation("class", Restored, ""),
    expectation("helper", Restored, ""),
    expectation("translation", Restored, ""),
    expectation("function", Restored, ""),
    expectation("identifier", Lost, "each kernel gives its own"),
];

/// The row of an attribute of a kind, and its place.
pub(crate) fn row_of(kind: &str, attribute: &str) -> Option<(usize, &'static Row)> {
    TABLE.iter().enumerate().find(|(_, row)| {
        let fits = match row.kinds {
            [] => kind != "expectation",
            kinds => kinds.contains(&kind),
        };
        fits && row.attribute == attribute
    })
}
