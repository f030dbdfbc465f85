//! What a run of the kit says: one result a case, counts, and what was tested.
//!
//! Owns the JSON report's shape, which tools read: fields are added, never changed, without a new version.

use facestream_core::guest::SlotKind;
use facestream_guest_host::{Digest, WIT_VERSIONS};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kit::Kit;

/// Version of the JSON report.
pub const REPORT_VERSION: u32 = 1;

/// How a case went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it must be.
    Pass,
    /// Not as it must be: the guest is not fit for a camera.
    Fail,
    /// Allowed, but worth knowing.
    Advice,
    /// Could not be tried; `seen` says why. A warning, no failure.
    Skipped,
}

/// The result of one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// Name of the case.
    pub name: String,
    /// Why there is such a case.
    pub reason: String,
    /// How it went.
    pub status: Status,
    /// What was seen: of a failure what was wrong, else figures worth reading; may be empty.
    pub seen: String,
    /// Scene and frame in which it was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scene: Option<String>,
    /// Number of the frame in the scene, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<usize>,
    /// The command that shows it again, for anything but a pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reproduce: Option<String>,
    /// How long the case took, milliseconds. The only field that differs from run to run, beside figures of time.
    pub duration_ms: u64,
}

/// How many cases went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Summary {
    pub passed: usize,
    pub failed: usize,
    pub advice: usize,
    pub skipped: usize,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub report_version: u32,
    /// Version of the host whose sandbox ran the guest.
    pub host_version: String,
    /// WIT versions that this host accepts.
    pub host_wit: String,
    /// The guest as it was named.
    pub guest: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its world.
    pub world: SlotKind,
    /// WIT version it was built against.
    pub wit_version: String,
    /// Settings it was tested with.
    pub config: Value,
    /// Results, in the order of the cases.
    pub cases: Vec<CaseResult>,
    /// Counts.
    pub summary: Summary,
    /// No case failed.
    pub passed: bool,
}

impl Report {
    /// From the results.
    #[must_use]
    pub fn new(kit: &Kit, cases: Vec<CaseResult>) -> Self {
        let count = |status| cases.iter().filter(|c| c.status == status).count();
        let summary = Summary {
            passed: count(Status::Pass),
            failed: count(Status::Fail),
            advice: count(Status::Advice),
            skipped: count(Status::Skipped),
        };
        let info = kit.info();
        Self {
            report_version: REPORT_VERSION,
            host_version: env!("CARGO_PKG_VERSION").to_owned(),
            host_wit: WIT_VERSIONS.to_owned(),
            guest: kit.reference.clone(),
            digest: info.digest,
            world: info.kind,
            wit_version: info.wit_version.clone(),
            config: kit.config.clone(),
            cases,
            summary,
            passed: summary.failed == 0,
        }
    }

    /// Pretty JSON, with a line break at the end.
    ///
    /// # Errors
    /// Never in practice: every field is plain data.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
