//! What can go wrong between here and a registry, in words for the person who has to do something about it.
//!
//! Must not repeat a credential, nor a reference that could not be read: it may hold one.

use oci_client::errors::{DigestError, OciDistributionError};

/// Longest text of a registry that is repeated.
const MAX_WORDS: usize = 256;

/// Why an artifact was not pulled or pushed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The reference cannot be read.
    #[error("{0}; expected oci://HOST[:PORT]/REPOSITORY@sha256:<64 hex digits>")]
    BadReference(&'static str),
    /// No digest in it.
    #[error(
        "the reference names no digest, and a tag may mean other bytes tomorrow: give oci://HOST/REPOSITORY@sha256:<64 hex digits>; `facestream guest push --oci` prints it, and `oras resolve HOST/REPOSITORY:TAG` (or `skopeo inspect`) tells the digest that a tag has now"
    )]
    NoDigest,
    /// A registry that nobody allowed.
    #[error(
        "this host pulls from no registry `{registry}`; it pulls from {allowed}. Whoever runs it allows one in its configuration: [[registries.allow]] with host = \"{registry}\""
    )]
    NotAllowed {
        /// Which.
        registry: String,
        /// Those that are allowed.
        allowed: String,
    },
    /// The registry has no such thing.
    #[error("{registry} has no {what}: {said}")]
    NotFound {
        /// Which.
        registry: String,
        /// What was asked for.
        what: String,
        /// The registry's words.
        said: String,
    },
    /// The registry wants other credentials, or some.
    #[error(
        "{registry} refuses to hand it out ({said}); give user and password of one who may read it: `registries.allow` of the host's configuration, or FACESTREAM_REGISTRY_USER and FACESTREAM_REGISTRY_PASSWORD on the command line"
    )]
    Denied {
        /// Which.
        registry: String,
        /// The registry's words.
        said: String,
    },
    /// No answer, or half of one.
    #[error("{registry} cannot be reached or did not answer to the end: {problem}")]
    Unreachable {
        /// Which.
        registry: String,
        /// What happened.
        problem: String,
    },
    /// An answer that says no.
    #[error("{registry} failed: {said}")]
    Failed {
        /// Which.
        registry: String,
        /// The registry's words.
        said: String,
    },
    /// More bytes than are accepted.
    #[error("the component has {bytes} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// Bytes that are not those of the digest.
    #[error("{registry} sent other bytes than those asked for, so they were thrown away: {problem}")]
    WrongBytes {
        /// Which.
        registry: String,
        /// What differs.
        problem: String,
    },
    /// Something else than a component.
    #[error(
        "{0}; a guest is an OCI artifact with one layer of the type application/wasm, as `facestream guest push --oci` makes it (or `oras push HOST/REPOSITORY:TAG FILE.wasm:application/wasm`)"
    )]
    NotAGuest(String),
    /// It takes too long.
    #[error("{registry} did not deliver within {limit_ms} ms (registries.pull_timeout_ms)")]
    Time {
        /// Which.
        registry: String,
        /// Time allowed.
        limit_ms: u64,
    },
    /// No client can be made.
    #[error("no connection to {registry} can be made from here: {problem}")]
    Client {
        /// Which.
        registry: String,
        /// What lacks.
        problem: String,
    },
}

impl RegistryError {
    /// From what the client says about a request for `what`.
    pub(crate) fn from_client(registry: &str, what: &str, error: &OciDistributionError) -> Self {
        let registry = registry.to_owned();
        let by_status = |registry: String, status: u16, said: String| match status {
            401 | 403 => Self::Denied { registry, said },
            404 => Self::NotFound { registry, what: what.to_owned(), said },
            _ => Self::Failed { registry, said },
        };
        match error {
            OciDistributionError::UnauthorizedError { .. } => Self::Denied { registry, said: "401".to_owned() },
            OciDistributionError::AuthenticationFailure(said) => Self::Denied { registry, said: words(said) },
            OciDistributionError::ServerError { code, message, .. } => {
                let said =
                    if message.trim().is_empty() { code.to_string() } else { format!("{code}, {}", words(message)) };
                by_status(registry, *code, said)
            }
            OciDistributionError::RegistryError { envelope, .. } => {
                use oci_client::errors::OciErrorCode as Code;
                let said = words(&envelope.to_string());
                let status = match envelope.errors.first().map(|e| &e.code) {
                    Some(Code::Unauthorized | Code::Denied) => 403,
                    Some(
                        Code::BlobUnknown
                        | Code::ManifestUnknown
                        | Code::ManifestBlobUnknown
                        | Code::NameUnknown
                        | Code::NotFound,
                    ) => 404,
                    _ => 400,
                };
                by_status(registry, status, said)
            }
            OciDistributionError::DigestError(DigestError::VerificationError { expected, actual }) => {
                Self::WrongBytes { registry, problem: format!("{what} is {}, not {}", words(actual), words(expected)) }
            }
            error @ OciDistributionError::RequestError(_) => Self::Unreachable { registry, problem: chain(error) },
            error => Self::Failed { registry, said: words(&error.to_string()) },
        }
    }

    /// From what happened while a layer came in.
    pub(crate) fn from_stream(registry: &str, error: &std::io::Error) -> Self {
        let registry = registry.to_owned();
        match error.get_ref().and_then(|e| e.downcast_ref::<DigestError>()) {
            Some(problem) => Self::WrongBytes { registry, problem: words(&problem.to_string()) },
            None => Self::Unreachable { registry, problem: chain(error) },
        }
    }
}

/// Text of a registry made fit for answers and logs: one line, no control characters, not too long.
pub(crate) fn words(text: &str) -> String {
    let mut out = String::new();
    for c in text.trim().chars() {
        if out.len() >= MAX_WORDS {
            out.push('…');
            break;
        }
        if c.is_control() { out.push(' ') } else { out.push(c) }
    }
    out
}

/// An error with its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    words(&text)
}
