//! Who is asking, and what they may do.
//!
//! Owns roles, tokens and the two middlewares: one finds out who asks, one asks for a role. Must not keep a token in
//! clear text: it is hashed as it is read, and compared as a hash in constant time.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::ServerConfig;
use crate::problem::{Kind, Problem};

/// What a token allows. Each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads everything but credentials.
    Viewer,
    /// Starts and stops cameras, swaps guests.
    Operator,
    /// Uploads and deletes guests.
    GuestAdmin,
}

impl Role {
    /// Every role, weakest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::GuestAdmin];

    /// The name used in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::GuestAdmin => "guest-admin",
        }
    }
}

/// SHA-256 of a token. Read from the token itself or from `sha256:<64 hex digits>`.
///
/// A fast hash is enough for random tokens of 16 characters and more; these are not passwords that people think up.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TokenHash([u8; 32]);

/// A token that cannot be one. Never repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Too short to be safe from guessing.
    #[error("a token needs 16 characters or more (try `openssl rand -hex 32`)")]
    Short,
    /// Characters that no `Authorization` header carries.
    #[error("a token may have only visible ASCII characters")]
    Characters,
    /// Malformed hash.
    #[error("`sha256:` must be followed by 64 hexadecimal digits (try `printf %s TOKEN | sha256sum`)")]
    Hash,
}

impl TokenHash {
    /// Hash of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl TryFrom<String> for TokenHash {
    type Error = InvalidToken;

    fn try_from(text: String) -> Result<Self, InvalidToken> {
        if let Some(hex) = text.strip_prefix("sha256:") {
            let bytes = hex.as_bytes();
            if bytes.len() != 64 || !bytes.iter().all(u8::is_ascii_hexdigit) {
                return Err(InvalidToken::Hash);
            }
            let mut hash = [0; 32];
            for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
                let pair = std::str::from_utf8(pair).map_err(|_| InvalidToken::Hash)?;
                *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidToken::Hash)?;
            }
            return Ok(Self(hash));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidToken::Characters);
        }
        if text.len() < 16 { Err(InvalidToken::Short) } else { Ok(Self::of(&text)) }
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(***)")
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Name of the token, or `anonymous` where none is asked for.
    pub(crate) name: Arc<str>,
    /// What they may do.
    pub(crate) role: Role,
}

/// Who may do what, as configured.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// Empty: everybody may do everything.
    tokens: Arc<[(TokenHash, Identity)]>,
}

impl Access {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        let tokens = config
            .tokens
            .iter()
            .map(|t| (t.token.clone(), Identity { name: t.name.as_str().into(), role: t.role }))
            .collect();
        Self { tokens }
    }

    fn identify(&self, headers: &HeaderMap) -> Option<Identity> {
        if self.tokens.is_empty() {
            return Some(Identity { name: "anonymous".into(), role: Role::GuestAdmin });
        }
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let presented = TokenHash::of(token.trim());
        // All are compared, so that the time says nothing about which one matched.
        let mut found = None;
        for (hash, identity) in self.tokens.iter() {
            if hash.matches(&presented) {
                found = Some(identity);
            }
        }
        found.cloned()
    }
}

/// Middleware: puts the [`Identity`] of whoever asks into the request, when they have one.
pub(crate) async fn identify(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    if let Some(identity) = access.identify(request.headers()) {
        request.extensions_mut().insert(identity);
    }
    next.run(request).await
}

/// Middleware: lets through whoever has at least the role.
pub(crate) async fn require(State(role): State<Role>, request: Request, next: Next) -> Response {
    match request.extensions().get::<Identity>() {
        Some(identity) if identity.role >= role => {
            if role > Role::Viewer {
                tracing::info!(who = %identity.name, method = %request.method(), path = request.uri().path(), "An operator's request.");
            }
            next.run(request).await
        }
        Some(identity) => Problem::new(
            Kind::Forbidden,
            format!("token `{}` has the role {}, this needs {}", identity.name, identity.role.as_str(), role.as_str()),
        )
        .into_response(),
        None => {
            Problem::new(Kind::Unauthorized, "send `Authorization: Bearer <token>` with a token from the configuration")
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> Result<TokenHash, InvalidToken> {
        TokenHash::try_from(text.to_owned())
    }

    #[test]
    fn a_token_and_its_hash_are_the_same() {
        // `printf %s correct-horse-battery | sha256sum`
        let clear = hash("correct-horse-battery").unwrap();
        let hex: String = clear.0.iter().map(|b| format!("{b:02X}")).collect();
        assert_eq!(hash(&format!("sha256:{hex}")).unwrap(), clear);
        assert!(clear.matches(&TokenHash::of("correct-horse-battery")));
        assert!(!clear.matches(&TokenHash::of("correct-horse-batterz")));
    }

    #[test]
    fn bad_tokens_are_refused_without_being_repeated() {
        for (bad, why) in [
            ("short", InvalidToken::Short),
            ("has a space in the middle", InvalidToken::Characters),
            ("sha256:abc", InvalidToken::Hash),
            (&format!("sha256:{}", "zz".repeat(32)), InvalidToken::Hash),
        ] {
            assert_eq!(hash(bad), Err(why));
            assert!(!why.to_string().contains(bad));
        }
        assert_eq!(format!("{:?}", TokenHash::of("0123456789abcdef")), "TokenHash(***)");
    }

    #[test]
    fn roles_are_ordered() {
        assert!(Role::ALL.is_sorted());
    }
}
