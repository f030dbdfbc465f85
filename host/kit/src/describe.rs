//! What a component can reach, in words for whoever has to allow it: read from its imports alone.
//!
//! Owns the sentences. What may be imported at all the host decides when it loads.

use facestream_core::guest::SlotKind;
use facestream_guest_host::{ComponentFacts, ComponentInfo};
use serde::Serialize;

/// A component described.
#[derive(Clone, Debug, Serialize)]
pub struct Described {
    /// What the host reads from it.
    #[serde(flatten)]
    pub info: ComponentInfo,
    /// WIT versions that this host accepts; the component's is one of them, or it could not be described.
    pub host_wit: &'static str,
    /// Toolchain, memories.
    #[serde(flatten)]
    pub facts: ComponentFacts,
    /// What it can and cannot reach, a sentence each.
    pub reach: Vec<String>,
}

/// Puts facts into words.
#[must_use]
pub fn describe(info: ComponentInfo, facts: ComponentFacts, host_wit: &'static str) -> Described {
    let has = |name: &str| info.imports.iter().any(|i| i.starts_with(name));
    let mut reach = Vec::new();
    let pictures = match (info.kind, has("facestream:analytics/pixels")) {
        (_, false) => "never sees a picture: it does not import pixels",
        (SlotKind::Scorer, true) => "sees each frame during `observe`, and keeps crops of it within its budget",
        (_, true) => "sees the pictures of shots, not whole frames",
    };
    reach.push(pictures.to_owned());
    let log = has("facestream:analytics/log") || has("wasi:cli/std");
    reach.push(if log { "writes log lines, at a bounded rate" } else { "writes no log lines" }.to_owned());
    reach.push("no network, no file, no environment: the host has none to give".to_owned());
    if has("wasi:") {
        reach.push(
            "imports WASI, which is empty here: its clocks show the frame's time, its random numbers are seeded"
                .to_owned(),
        );
    } else {
        reach.push("imports no WASI: no clock and no random numbers".to_owned());
    }
    let leaves = match info.kind {
        SlotKind::Tracker => "what it answers are boxes and ids",
        SlotKind::Scorer => "what it answers are pictures of tracks, which go to the formatter",
        SlotKind::Formatter => "what it answers leaves the system as messages",
    };
    reach.push(leaves.to_owned());
    Described { info, host_wit, facts, reach }
}
