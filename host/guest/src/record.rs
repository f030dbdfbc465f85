//! Record and replay: what guests were told and what they answered, kept for a while, written on demand, run again.
//!
//! Owns the call log of an instance, its file, the replay of it in the real sandbox, and the comparison of two guests that
//! were told the same. Must not decide when a recording is written or where: the slots and the pipeline do.
//!
//! Pictures stay out of it unless `guests.recorder.pictures` is set: what a guest measured is kept as numbers, a crop as
//! its size, bytes made from one (JPEG, grey, RGB, and what a guest wrote after it had them) as length and digest.

mod asked;
mod bundle;
mod call;
mod compare;
mod kept;
mod notes;
mod replay;
mod ring;
mod runner;
mod scores;
mod tape;

pub use asked::{CropOrigin, HostAnswer, HostCall, HostRequest};
pub use bundle::{BUNDLE_FORMAT, Bundle, BundleError, Manifest, Reason, Recording};
pub use call::{Answer, Blob, Call, MessageRecord, PictureRecord, RecordedCall, ShotRecord, StateRecord};
pub use compare::{Comparison, ComparisonReport, Timing};
pub use kept::Kept;
pub(crate) use notes::Recorder;
pub use replay::{Difference, Replay, ReplayError, ReplayReport, replay};
pub use ring::Start;
pub(crate) use runner::{Pictures, Runner};
pub(crate) use scores::{ShotKey, held_scores};
pub(crate) use tape::{ReplayPicture, Tape};
