//! Guests: WebAssembly components that track, score and format, one set a camera, in a sandbox each.
//!
//! Owns everything about WebAssembly: the engine, what components may import, limits, validation of what they return,
//! restarts, hot swap with state, the store of components. The only crate that depends on wasmtime, and no type of
//! wasmtime is in its interface. Must not know RTSP, decoders, models, Kafka or HTTP.
//!
//! ```text
//! bytes ─► GuestComponent::load ─► GuestFactory::prepare ─► CameraGuests::{process, tick, flush, commit_swap, status}
//!          (inspect, compile,       (instantiate,            (on the camera's worker thread)
//!           cache, link)             configure, self-test)
//! ```
#![deny(unsafe_code)]

mod bindings;
mod cache;
mod carry;
mod command;
mod compile;
mod component;
pub mod config;
mod convert;
mod digest;
mod engine;
mod error;
mod facts;
mod formatter;
mod host;
mod instance;
mod ledger;
pub mod record;
mod records;
mod scorer;
mod signing;
mod slot;
mod slots;
mod store;
mod tracker;
mod validate;

pub use cache::CacheStats;
pub use command::{CommandLimits, run_command};
pub use compile::{COMPILE_COMMAND, ChildCompiler, CompileJob, Compiler, compile_child};
pub use component::{ComponentInfo, GuestComponent, WIT_VERSION, WIT_VERSIONS, inspect};
pub use config::{
    BreakerConfig, CompileConfig, GuestCeilings, GuestConfig, GuestLimits, RecorderConfig, RestartConfig,
};
pub use config::{SignatureConfig, SignaturePolicy, SignerConfig};
pub use convert::Snapshot;
pub use digest::Digest;
pub use engine::GuestEngine;
pub use error::{CommandError, EngineError, GuestFailure, LoadError, Refusal, SignatureProblem, StoreError, SwapError};
pub use facts::{ComponentFacts, MemoryFacts, facts};
pub use formatter::{FormatEvent, FormatterGuest, Interest, WrittenMessage};
pub use instance::{CallStats, GuestEnv, Usage};
pub use scorer::ScorerGuest;
pub use signing::{GuestSignature, PublicKey, SecretKey};
pub use slots::{
    CameraGuests, Considered, DryRunInput, DryRunReport, ExplainError, ExplainInput, Explanation, GuestFactory,
    GuestSet, GuestView, MessageRef, Outcome, PreparedGuest, Shadow, ShadowReport, SlotGuest, SlotState, TrackPoint,
    Written,
};
pub use store::{GuestStore, StoredGuest, is_name as is_guest_name};
pub use tracker::TrackerGuest;
