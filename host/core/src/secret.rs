//! Camera addresses whose credentials never print.
//!
//! Owns parsing, redaction and the only door to the clear text. Must not resolve or connect.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// Bytes of an address: RTSP servers take less, and every list of cameras holds all of them.
const MAX_URL_BYTES: usize = 4096;

/// Why an address was refused. Never carries the address itself: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceUrlError {
    /// Not a URL.
    #[error("not a URL ({0}); expected rtsp://[user:password@]host[:port]/path")]
    Malformed(url::ParseError),
    /// Longer than any camera's.
    #[error("the URL has {0} bytes; at most {MAX_URL_BYTES} are taken")]
    TooLong(usize),
    /// No host in it.
    #[error("the URL names no host; expected rtsp://[user:password@]host[:port]/path")]
    NoHost,
}

/// A camera's address. `Display` and `Debug` show it without user name, password and query values.
#[derive(Clone)]
pub struct SourceUrl {
    /// Without user info.
    bare: Url,
    user: Option<String>,
    password: Option<SecretString>,
}

impl SourceUrl {
    /// Parses an address and takes its credentials out.
    ///
    /// # Errors
    /// When it is no URL, too long, or names no host.
    pub fn parse(text: &str) -> Result<Self, SourceUrlError> {
        if text.len() > MAX_URL_BYTES {
            return Err(SourceUrlError::TooLong(text.len()));
        }
        let mut url = Url::parse(text.trim()).map_err(SourceUrlError::Malformed)?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(SourceUrlError::NoHost);
        }
        let decode = |s: &str| percent_decode(s);
        let user = (!url.username().is_empty()).then(|| decode(url.username()));
        let password = url.password().map(|p| SecretString::from(decode(p)));
        // Setting user info fails only for URLs that cannot have any, which a host rules out for all but `file:`.
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        if cleared.is_err() {
            return Err(SourceUrlError::NoHost);
        }
        Ok(Self { bare: url, user, password })
    }

    /// The address without user info; query values are still in it, so do not print it.
    #[must_use]
    pub fn bare(&self) -> &Url {
        &self.bare
    }

    /// User name, decoded.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Password, decoded, still wrapped.
    #[must_use]
    pub fn password(&self) -> Option<&SecretString> {
        self.password.as_ref()
    }

    /// The whole address in clear text: for the wanted-camera store (a file only its owner reads) and nothing else.
    #[must_use]
    pub fn expose(&self) -> SecretString {
        let mut url = self.bare.clone();
        // `url` encodes what may not stand in user info, but takes a `%` for the beginning of something encoded.
        let encoded = |text: &str| text.replace('%', "%25");
        let user = self.user.as_deref().map(encoded).unwrap_or_default();
        let password = self.password.as_ref().map(|p| SecretString::from(encoded(p.expose_secret())));
        let password = password.as_ref().map(ExposeSecret::expose_secret);
        // Cannot fail: `parse` has already changed the same fields of the same URL.
        let set = url.set_username(&user).and_then(|()| url.set_password(password));
        debug_assert!(set.is_ok(), "user info was cleared from this URL before");
        SecretString::from(url.to_string())
    }
}

/// `%41` to `A`; bytes that are no UTF-8 become replacement characters.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        // `from_str_radix` would take a sign, too.
        let hex = bytes.get(i + 1..i + 3).filter(|h| h.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[i], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                i += 3;
            }
            (byte, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.bare.scheme())?;
        if self.user.is_some() || self.password.is_some() {
            f.write_str("***@")?;
        }
        f.write_str(self.bare.host_str().unwrap_or_default())?;
        if let Some(port) = self.bare.port() {
            write!(f, ":{port}")?;
        }
        // Some cameras take the password in the path (`/user=admin_password=…`).
        let path = self.bare.path();
        f.write_str(if path.contains('=') { "/***" } else { path })?;
        if self.bare.query().is_some() {
            // Cheap cameras take `?user=…&pwd=…`.
            f.write_str("?***")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceUrl({self})")
    }
}

impl PartialEq for SourceUrl {
    fn eq(&self, other: &Self) -> bool {
        let clear = |p: &Option<SecretString>| p.as_ref().map(|s| s.expose_secret().to_owned());
        self.bare == other.bare && self.user == other.user && clear(&self.password) == clear(&other.password)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_prints() {
        let url = SourceUrl::parse("rtsp://ad%40min:p%3Aw@cam:8554/s?pwd=hidden").unwrap();
        for text in [format!("{url}"), format!("{url:?}"), format!("{:?}", url.password())] {
            assert!(!text.contains("p%3Aw") && !text.contains("p:w") && !text.contains("hidden"), "{text}");
        }
        assert_eq!(url.to_string(), "rtsp://***@cam:8554/s?***");
        assert_eq!(url.user(), Some("ad@min"));
        assert_eq!(url.password().unwrap().expose_secret(), "p:w");
        assert_eq!(SourceUrl::parse(url.expose().expose_secret()).unwrap(), url);
    }

    #[test]
    fn a_percent_sign_in_user_or_password_survives_being_written_down() {
        let url = SourceUrl::parse("rtsp://u%25ser:ab%2541c%@cam/").unwrap();
        assert_eq!(url.user(), Some("u%ser"));
        assert_eq!(url.password().unwrap().expose_secret(), "ab%41c%");
        let again = SourceUrl::parse(url.expose().expose_secret()).unwrap();
        assert_eq!(again.password().unwrap().expose_secret(), "ab%41c%");
        assert_eq!(again, url);
        assert_eq!(percent_decode("%+f%4g%41"), "%+f%4gA", "two hexadecimal digits, nothing else");
    }

    #[test]
    fn a_password_in_the_path_does_not_print_either() {
        let url = SourceUrl::parse("rtsp://10.0.0.9/user=admin_password=hidden_channel=1").unwrap();
        assert_eq!(format!("{url} {url:?}"), "rtsp://10.0.0.9/*** SourceUrl(rtsp://10.0.0.9/***)");
    }

    #[test]
    fn an_address_is_bounded() {
        let of = |n: usize| SourceUrl::parse(&format!("rtsp://a/{}", "x".repeat(n)));
        assert!(of(4000).is_ok());
        assert_eq!(of(5000).unwrap_err(), SourceUrlError::TooLong(5009));
    }

    #[test]
    fn nonsense_is_refused_without_being_repeated() {
        for bad in ["", "cam", "rtsp://", "rtsp:///x"] {
            let error = SourceUrl::parse(bad).unwrap_err().to_string();
            assert!(error.contains("expected rtsp://"), "{error}");
        }
    }
}
