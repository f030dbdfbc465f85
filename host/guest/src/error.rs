//! What can go wrong with guests, in words for the person who has to do something about it.
//!
//! Owns the error types of this crate. wasmtime's own types do not appear in them: no other crate knows wasmtime.

use std::path::PathBuf;

use facestream_core::guest::SlotKind;

/// Why a component was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// More bytes than are accepted.
    #[error("the component has {bytes} bytes; at most {limit} are accepted (guests.max_component_bytes)")]
    TooBig {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Not WebAssembly.
    #[error("not a WebAssembly component: the file does not begin with the bytes `\\0asm`")]
    NotWasm,
    /// A core module.
    #[error(
        "a plain WebAssembly module, not a component: build with `facestream guest build` or `cargo build --target wasm32-wasip2`, or turn it into a component with `wasm-tools component new`"
    )]
    PlainModule,
    /// Machine code.
    #[error(
        "precompiled machine code is not accepted, because it cannot be verified: send the WebAssembly component itself"
    )]
    Precompiled,
    /// Cut off, damaged, or using a feature that is switched off.
    #[error("the component is truncated, damaged or uses a WebAssembly feature that is off here: {0}")]
    Malformed(String),
    /// Imports something that guests do not get.
    #[error("the component imports `{import}`, which guests do not get: {why}")]
    ImportRefused {
        /// Name of the import.
        import: String,
        /// Why, or what is allowed.
        why: String,
    },
    /// Written for another version of the contract.
    #[error(
        "the component speaks facestream:analytics {found} (`{name}`), this host speaks {supported}: rebuild the guest against the host's WIT package"
    )]
    WitVersion {
        /// The import or export.
        name: String,
        /// Version found.
        found: String,
        /// Versions spoken here.
        supported: &'static str,
    },
    /// Exports none of the interfaces of a guest.
    #[error(
        "the component exports none of facestream:analytics/tracking, scoring and formatting; its exports: {found}"
    )]
    NoExport {
        /// What it does export.
        found: String,
    },
    /// Exports more than one of them.
    #[error("the component exports {0}: one guest fills one slot; build a component for each")]
    SeveralExports(String),
    /// The names fit but the types or functions do not.
    #[error("the component's {kind} interface is not that of facestream:analytics 0.1: {problem}")]
    Mismatch {
        /// Slot it is for.
        kind: SlotKind,
        /// Which function or type.
        problem: String,
    },
    /// The compiler refused.
    #[error("the component could not be compiled: {0}")]
    Compile(String),
    /// It takes too long to compile.
    #[error(
        "the component was not compiled within {limit_ms} ms (guests.compile.timeout_ms): make its functions smaller, or build it with optimisation for size"
    )]
    CompileTime {
        /// Time allowed.
        limit_ms: u32,
    },
    /// It takes too much memory to compile.
    #[error(
        "compiling the component needs more than {limit_bytes} bytes (guests.compile.max_memory_bytes): make its functions smaller, or build it with optimisation for size"
    )]
    CompileMemory {
        /// Address space allowed.
        limit_bytes: u64,
    },
    /// Its machine code is out of proportion.
    #[error(
        "the machine code of the component has more than the {limit_bytes} bytes that are taken for one of its size: make its functions smaller, or build it with optimisation for size"
    )]
    CodeSize {
        /// Bytes allowed.
        limit_bytes: u64,
    },
    /// The host could not start the process that compiles, or talk to it: nothing is known of the component.
    #[error("the process that compiles guests could not be run: {0}")]
    Compiler(String),
    /// Too many wait for the compiler.
    #[error("{waiting} other components wait to be compiled (guests.compile.max_waiting); try again in a few seconds")]
    CompileBusy {
        /// How many wait.
        waiting: u32,
    },
}

/// How a guest failed in a call. The instance is given up, except after `Refused`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GuestFailure {
    /// It trapped: panic, out-of-bounds access, stack overflow, misuse of a handle.
    #[error("the guest trapped: {0}")]
    Trap(String),
    /// It ran longer than it may.
    #[error(
        "the guest ran past its deadline of {deadline_ms} ms of processor time ({wall_deadline_ms} ms on the wall)"
    )]
    Deadline {
        /// Processor time allowed.
        deadline_ms: u32,
        /// Wall time allowed.
        wall_deadline_ms: u32,
    },
    /// It wanted more memory than it may have, and trapped when it got none.
    #[error("the guest needs more than its {limit_bytes} bytes of memory: {text}")]
    Memory {
        /// Memories and tables allowed, in sum.
        limit_bytes: u64,
        /// The trap.
        text: String,
    },
    /// Its calls used up what they may use within a second, all together.
    #[error("the guest used more than its {limit} {what} a second (limits.{key})")]
    Budget {
        /// Of what.
        what: &'static str,
        /// The limit's name.
        key: &'static str,
        /// How much was allowed.
        limit: u64,
    },
    /// It returned nonsense.
    #[error("the guest returned something impossible: {0}")]
    Invalid(String),
    /// It said no itself.
    #[error("the guest refused: {0}")]
    Refused(Refusal),
    /// No instance could be made: the pool is exhausted (`guests.max_instances`), or the component's start-up failed.
    #[error("no instance could be made: {0}")]
    Instantiate(String),
}

impl GuestFailure {
    /// Every answer of [`Self::kind`].
    pub const KINDS: [&'static str; 7] = ["trap", "deadline", "memory", "budget", "invalid", "refused", "instantiate"];

    /// One word for metrics, of [`Self::KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        Self::KINDS[self.index()]
    }

    /// Place in [`Self::KINDS`].
    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Trap(_) => 0,
            Self::Deadline { .. } => 1,
            Self::Memory { .. } => 2,
            Self::Budget { .. } => 3,
            Self::Invalid(_) => 4,
            Self::Refused(_) => 5,
            Self::Instantiate(_) => 6,
        }
    }

    /// Whether it only means that this form of state is not one that the guest reads.
    pub(crate) fn is_unsupported_state(&self) -> bool {
        matches!(self, Self::Refused(Refusal::UnsupportedSnapshot(_)))
    }
}

/// A guest's own error (`guest-error` in WIT).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The settings are wrong.
    #[error("its settings are wrong: {0}")]
    InvalidConfig(String),
    /// It cannot read this state.
    #[error("it cannot read this state: {0}")]
    UnsupportedSnapshot(String),
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

/// Why a swap did not happen. The guest that ran before still runs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SwapError {
    /// The component is for another slot.
    #[error("`{guest}` is a {found}, it cannot fill the {wanted} slot")]
    WrongSlot {
        /// Reference asked for.
        guest: String,
        /// What it is.
        found: SlotKind,
        /// What was asked for.
        wanted: SlotKind,
    },
    /// The new guest refused its settings, failed its self-test or could not be made.
    #[error("the new {slot} `{guest}` did not start: {failure}")]
    Start {
        /// Slot.
        slot: SlotKind,
        /// Reference asked for.
        guest: String,
        /// What happened.
        failure: GuestFailure,
    },
    /// The new guest failed on frames made up for it, in an instance of its own.
    #[error(
        "the new {slot} `{guest}` failed its self-test on made-up frames, so it was not let near the camera: {failure}"
    )]
    SelfTest {
        /// Slot.
        slot: SlotKind,
        /// Reference asked for.
        guest: String,
        /// What happened.
        failure: GuestFailure,
    },
    /// There is no guest before this one.
    #[error("the {slot} has had no other guest before, so there is nothing to go back to")]
    NothingBefore {
        /// Slot.
        slot: SlotKind,
    },
    /// The new guest failed to take over the state.
    #[error("the new {slot} `{guest}` could not take over the state, so the old one was put back: {failure}")]
    Restore {
        /// Slot.
        slot: SlotKind,
        /// Reference asked for.
        guest: String,
        /// What happened.
        failure: GuestFailure,
    },
}

/// What is wrong with the signature of a guest, or with not having one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureProblem {
    /// None, where one is needed.
    #[error("it is not signed, and this host takes signed guests only: `facestream guest sign`, then push with --sig")]
    Unsigned,
    /// None, where versions before had one.
    #[error("it is not signed, but other versions of it were: sign this one too")]
    UnsignedAfterSigned,
    /// No signature at all.
    #[error("the signature cannot be read; expected ed25519:<64 hex digits>:<128 hex digits>")]
    Malformed,
    /// By somebody else.
    #[error("it is signed by {key}, which is none of guests.signatures.keys")]
    UnknownSigner {
        /// The key.
        key: String,
    },
    /// Over something else.
    #[error("the signature is not one over this name, version and component: one of them was changed after signing")]
    Tampered,
    /// An older version than one that was taken.
    #[error("version {highest} of it was taken before, and with signatures required versions only go up")]
    Downgrade {
        /// The highest so far.
        highest: String,
    },
    /// No version that can be compared.
    #[error("with signatures required a version is like 1.2.3, so that it can be compared: {0}")]
    NoOrder(String),
}

/// What can go wrong with the store of guests.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A reference that names nothing.
    #[error("no guest `{reference}`; known: {known}")]
    NotFound {
        /// What was asked for.
        reference: String,
        /// Names there are.
        known: String,
    },
    /// Not a name, `name@version` or `sha256:<64 hex digits>`.
    #[error(
        "`{0}` is no guest reference; expected NAME, NAME@VERSION or sha256:<64 hex digits>, names of a-z 0-9 . _ -"
    )]
    BadReference(String),
    /// The name and version stand for other bytes already.
    #[error("{name}@{version} is already {digest}; versions do not change: choose another version")]
    VersionTaken {
        /// Name.
        name: String,
        /// Version.
        version: String,
        /// What it stands for.
        digest: String,
    },
    /// The name and version stood for other bytes before they were deleted.
    #[error(
        "{name}@{version} was {digest} before it was deleted; a version never means other bytes: choose another version"
    )]
    VersionGone {
        /// Name.
        name: String,
        /// Version.
        version: String,
        /// What it stood for.
        digest: String,
    },
    /// It is not signed as the policy wants it.
    #[error("guest `{guest}` refused: {problem}")]
    Signature {
        /// Name and version.
        guest: String,
        /// Why.
        #[source]
        problem: SignatureProblem,
    },
    /// No room.
    #[error(
        "the store of guests is full ({what}): delete guests that no camera needs, DELETE /api/v1/guests/NAME@VERSION"
    )]
    Full {
        /// Of what, and the limit.
        what: String,
    },
    /// It comes with the host.
    #[error("`{0}` comes with the host and cannot be deleted")]
    BuiltIn(String),
    /// The component was refused.
    #[error("guest `{guest}` refused: {error}")]
    Load {
        /// Name or digest.
        guest: String,
        /// Why.
        #[source]
        error: LoadError,
    },
    /// The stored bytes do not have the digest they are filed under.
    #[error(
        "{path} does not have the digest it is filed under: it was changed or damaged on disk; push the guest again"
    )]
    DigestMismatch {
        /// The file.
        path: PathBuf,
    },
    /// The index of names cannot be read.
    #[error("the index of guests {path} is damaged ({problem}); restore it, or delete it and push the guests again")]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Reading or writing failed.
    #[error("{doing} {path}: {error}")]
    Io {
        /// `reading`, `writing` …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
}

impl StoreError {
    /// Whether it is the host's fault and not the guest's, so that the same request may succeed later.
    #[must_use]
    pub fn is_for_now(&self) -> bool {
        matches!(self, Self::Load { error: LoadError::CompileBusy { .. } | LoadError::Compiler(_), .. })
    }
}

/// Why a program did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It cannot be made to run here.
    #[error("the program is not one that runs here: {0}")]
    Refused(String),
    /// A component without a main function.
    #[error(
        "the component exports no wasi:cli/run, so it is no program: tests are what `cargo test --target wasm32-wasip1 --no-run` (or wasip2) makes"
    )]
    NoMain,
    /// It wants what the sandbox has not.
    #[error(
        "the program imports `{0}`; tests run with an empty WASI 0.2, as guests do, and with nothing of the host's"
    )]
    Import(String),
    /// It ran too long.
    #[error("the program ran longer than {seconds} s (--seconds)")]
    Deadline {
        /// Allowed.
        seconds: u64,
    },
    /// It wanted too much memory.
    #[error("the program wants more than its {limit_bytes} bytes of memory (--memory-mib)")]
    Memory {
        /// Allowed.
        limit_bytes: u64,
    },
    /// It trapped: a panic that aborts, an access out of bounds.
    #[error("the program trapped: {0}")]
    Trap(String),
}

/// Why the engine could not be made.
#[derive(Debug, thiserror::Error)]
#[error(
    "the WebAssembly engine could not be made ({0}); a limit on address space (`ulimit -v`) is a common cause: lower guests.max_instances or lift it"
)]
pub struct EngineError(pub String);

/// Text from a guest made fit for status and logs: control characters escaped, at most so many bytes and an ellipsis.
pub(crate) fn one_line(text: &str, max_bytes: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max_bytes));
    for c in text.chars() {
        if out.len() >= max_bytes {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn control_characters_do_not_reach_the_log() {
        assert_eq!(one_line("a\nb\u{1b}[1m", 100), "a\\nb\\u{1b}[1m");
        assert_eq!(one_line("aaaaaaaaaaaa", 4), "aaaa…");
    }
}
