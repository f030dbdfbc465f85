//! Who is let in: basic (RFC 7617) and digest (RFC 2617, RFC 7616) authentication.
//!
//! Owns challenges and their check. Must not keep anything a client: a nonce carries its own time and proof, so nobody can
//! fill memory by asking. Must not print what it checks.

use facestream_core::Clock;
use md5::Md5;
use secrecy::ExposeSecret as _;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

use crate::config::{Auth, Credentials, DigestAlgorithm};
use crate::error::SimError;
use crate::protocol::path_of;

/// What is told to clients as the place they log in to.
const REALM: &str = "facestream-sim";

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Welcome,
    /// No or wrong credentials.
    Refused,
    /// Right credentials over a nonce that is too old: the client shall try again without asking its user.
    Stale,
}

/// Guards all cameras of a simulator.
#[derive(Debug)]
pub(crate) struct Guard {
    credentials: Option<Credentials>,
    auth: Auth,
    /// Makes nonces unguessable.
    key: Key,
    clock: Arc<dyn Clock>,
}

struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(***)")
    }
}

impl Guard {
    pub(crate) fn new(credentials: Option<Credentials>, auth: Auth, clock: Arc<dyn Clock>) -> Result<Self, SimError> {
        let mut key = [0; 32];
        rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut key)
            .map_err(|error| SimError::Randomness(error.to_string()))?;
        Ok(Self { credentials, auth, key: Key(key), clock })
    }

    /// The value of `WWW-Authenticate`.
    pub(crate) fn challenge(&self, stale: bool) -> String {
        match self.auth {
            Auth::Basic => format!("Basic realm=\"{REALM}\""),
            Auth::Digest { algorithm, qop, .. } => {
                let nonce = self.nonce(self.clock.monotonic_ns());
                let mut out = format!("Digest realm=\"{REALM}\", nonce=\"{nonce}\", algorithm={}", algorithm.as_str());
                if qop {
                    out.push_str(", qop=\"auth\"");
                }
                if stale {
                    out.push_str(", stale=true");
                }
                out
            }
        }
    }

    /// Checks the `Authorization` header of a request.
    pub(crate) fn check(&self, method: &str, uri: &str, header: Option<&str>) -> Verdict {
        let Some(credentials) = &self.credentials else { return Verdict::Welcome };
        let Some((scheme, rest)) = header.and_then(|h| h.trim().split_once(' ')) else { return Verdict::Refused };
        match self.auth {
            Auth::Basic if scheme.eq_ignore_ascii_case("basic") => basic(credentials, rest),
            Auth::Digest { algorithm, qop, nonce_lifetime_s } if scheme.eq_ignore_ascii_case("digest") => {
                let fields = parameters(rest);
                let lifetime_ns = nonce_lifetime_s.saturating_mul(1_000_000_000);
                self.digest(credentials, algorithm, qop, lifetime_ns, method, uri, &fields).unwrap_or(Verdict::Refused)
            }
            _ => Verdict::Refused,
        }
    }

    /// Issue time and its proof. The message under the hash has a fixed length, so it cannot be extended.
    fn nonce(&self, issued_ns: u64) -> String {
        let proof = Sha256::new().chain_update(self.key.0).chain_update(issued_ns.to_be_bytes()).finalize();
        format!("{issued_ns:016x}{}", hex(&proof[..16]))
    }

    #[allow(clippy::too_many_arguments)]
    fn digest(
        &self,
        credentials: &Credentials,
        algorithm: DigestAlgorithm,
        qop: bool,
        lifetime_ns: u64,
        method: &str,
        uri: &str,
        fields: &[(String, String)],
    ) -> Option<Verdict> {
        let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let nonce = field("nonce")?;
        let issued_ns = u64::from_str_radix(nonce.get(..16)?, 16).ok()?;
        // Some clients sign the path only.
        let signed = field("uri")?;
        let here = signed == uri || signed == path_of(uri);
        // Clients of the old way do not repeat the algorithm; the nonce says that it was ours.
        let algorithm_fits = field("algorithm").is_none_or(|told| told.eq_ignore_ascii_case(algorithm.as_str()));
        let known = here && field("realm")? == REALM && algorithm_fits;
        let hash = |text: &str| match algorithm {
            DigestAlgorithm::Md5 => hex(&Md5::digest(text.as_bytes())),
            DigestAlgorithm::Sha256 => hex(&Sha256::digest(text.as_bytes())),
        };
        let secret = hash(&format!("{}:{REALM}:{}", credentials.user, credentials.password.expose_secret()));
        let request = hash(&format!("{method}:{signed}"));
        let expected = match field("qop") {
            Some("auth") if qop => {
                let (count, cnonce) = (field("nc")?, field("cnonce")?);
                hash(&format!("{secret}:{nonce}:{count}:{cnonce}:auth:{request}"))
            }
            // RFC 2617 3.2.2.1: a client may ignore the offer of qop.
            None => hash(&format!("{secret}:{nonce}:{request}")),
            Some(_) => return None,
        };
        let right_nonce = same(self.nonce(issued_ns).as_bytes(), nonce.as_bytes());
        let right_user = same(credentials.user.as_bytes(), field("username")?.as_bytes());
        let right = same(expected.as_bytes(), field("response")?.to_ascii_lowercase().as_bytes());
        if !(known & right_nonce & right_user & right) {
            return None;
        }
        let age = self.clock.monotonic_ns().checked_sub(issued_ns)?;
        Some(if age > lifetime_ns { Verdict::Stale } else { Verdict::Welcome })
    }
}

fn basic(credentials: &Credentials, coded: &str) -> Verdict {
    use base64::Engine as _;
    let Ok(sent) = base64::engine::general_purpose::STANDARD.decode(coded.trim()) else { return Verdict::Refused };
    let wanted = format!("{}:{}", credentials.user, credentials.password.expose_secret());
    if same(wanted.as_bytes(), &sent) { Verdict::Welcome } else { Verdict::Refused }
}

/// Equality in a time that tells nothing but the lengths.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `name=value` and `name="quoted \" value"`, separated by commas; names in lower case. What cannot be read is left out.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
        let mut value = String::new();
        let mut end = after.len();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut escaped = false;
            for (i, c) in quoted.char_indices() {
                match c {
                    _ if escaped => {
                        value.push(c);
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    '"' => {
                        end = i + 2;
                        break;
                    }
                    _ => value.push(c),
                }
            }
        } else {
            end = after.find(',').unwrap_or(after.len());
            after[..end].trim().clone_into(&mut value);
        }
        found.push((name, value));
        rest = &after[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use facestream_core::SimulatedClock;
    use proptest::prelude::*;

    use super::*;

    const URI: &str = "rtsp://127.0.0.1:8554/cam1/";

    fn guard(auth: Auth) -> (Guard, Arc<SimulatedClock>) {
        let clock = Arc::new(SimulatedClock::at(0));
        (Guard::new(Some(Credentials::new("admin", "s3:cret")), auth, clock.clone()).unwrap(), clock)
    }

    /// The answer of a client that we did not write.
    fn client(guard: &Guard, user: &str, password: &str) -> String {
        let mut client = http_auth::PasswordClient::try_from(guard.challenge(false).as_str()).unwrap();
        let request =
            http_auth::PasswordParams { username: user, password, uri: URI, method: "DESCRIBE", body: Some(&[]) };
        client.respond(&request).unwrap()
    }

    fn every_scheme() -> Vec<Auth> {
        let mut all = vec![Auth::Basic];
        for algorithm in [DigestAlgorithm::Md5, DigestAlgorithm::Sha256] {
            all.extend([true, false].map(|qop| Auth::Digest { algorithm, qop, nonce_lifetime_s: 300 }));
        }
        all
    }

    #[test]
    fn the_right_password_is_welcome_and_all_else_is_refused() {
        for auth in every_scheme() {
            let (guard, _) = guard(auth);
            let right = client(&guard, "admin", "s3:cret");
            assert_eq!(guard.check("DESCRIBE", URI, Some(&right)), Verdict::Welcome, "{auth:?}");
            for (user, password) in [("admin", "s3:creT"), ("Admin", "s3:cret"), ("admin", ""), ("", "")] {
                let wrong = client(&guard, user, password);
                assert_eq!(guard.check("DESCRIBE", URI, Some(&wrong)), Verdict::Refused, "{auth:?} {user}");
            }
            for nonsense in [None, Some(""), Some("Digest"), Some("Digest nonce"), Some("Basic ???"), Some("Bearer x")]
            {
                assert_eq!(guard.check("DESCRIBE", URI, nonsense), Verdict::Refused, "{auth:?} {nonsense:?}");
            }
        }
    }

    #[test]
    fn a_digest_is_good_for_its_request_nonce_and_time_only() {
        let auth = Auth::Digest { algorithm: DigestAlgorithm::Md5, qop: true, nonce_lifetime_s: 10 };
        let (guard_a, clock) = guard(auth);
        let right = client(&guard_a, "admin", "s3:cret");
        assert_eq!(guard_a.check("PLAY", URI, Some(&right)), Verdict::Refused);
        assert_eq!(guard_a.check("DESCRIBE", "rtsp://127.0.0.1:8554/cam2/", Some(&right)), Verdict::Refused);
        assert_eq!(guard(auth).0.check("DESCRIBE", URI, Some(&right)), Verdict::Refused);
        clock.advance(Duration::from_secs(10));
        assert_eq!(guard_a.check("DESCRIBE", URI, Some(&right)), Verdict::Welcome);
        clock.advance(Duration::from_nanos(1));
        assert_eq!(guard_a.check("DESCRIBE", URI, Some(&right)), Verdict::Stale);
        assert!(guard_a.challenge(true).contains("stale=true"));
    }

    #[test]
    fn parameters_are_read_quoted_and_bare() {
        let fields = parameters(
            r#"username="Mufasa", realm="testrealm@host.com", uri="/dir/index.html", qop=auth, nc=00000001, x="a\"b,c=d""#,
        );
        let find = |name: &str| fields.iter().find(|(n, _)| n == name).unwrap().1.as_str();
        assert_eq!((find("username"), find("qop"), find("nc"), find("x")), ("Mufasa", "auth", "00000001", "a\"b,c=d"));
    }

    #[test]
    fn without_credentials_all_are_welcome_and_nothing_prints_a_secret() {
        let clock = Arc::new(SimulatedClock::at(0));
        let open = Guard::new(None, Auth::default(), clock).unwrap();
        assert_eq!(open.check("PLAY", URI, None), Verdict::Welcome);
        let (closed, _) = guard(Auth::default());
        let shown = format!("{closed:?}");
        assert!(!shown.contains("s3:cret") && shown.contains("Key(***)"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_header_is_refused_without_panic(header in "\\PC{0,120}", fields in "[a-z=\", \\\\]{0,80}") {
            for auth in every_scheme() {
                let (guard, _) = guard(auth);
                prop_assert_eq!(guard.check("PLAY", URI, Some(&header)), Verdict::Refused);
                prop_assert_eq!(guard.check("PLAY", URI, Some(&format!("Digest {fields}"))), Verdict::Refused);
                let nonce = format!("Digest nonce=\"{fields}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\"");
                prop_assert_eq!(guard.check("PLAY", URI, Some(&nonce)), Verdict::Refused);
            }
        }
    }
}
