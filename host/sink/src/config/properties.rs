//! Properties of librdkafka as the user wrote them, with values that may be secret kept from being printed.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands where a secret is.
const HIDDEN: &str = "***";

/// Property names and values. `Debug` and `Serialize` show `***` for values that may be secret.
#[derive(Clone, Default)]
pub struct Properties(BTreeMap<String, SecretString>);

impl Properties {
    /// Sets a property.
    pub fn set(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), SecretString::from(value));
    }

    /// Names and values in clear text: for librdkafka and nothing else.
    pub(crate) fn exposed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.expose_secret()))
    }

    /// A value as it may be shown.
    pub(crate) fn shown<'a>(key: &str, value: &'a str) -> &'a str {
        if is_secret(key) { HIDDEN } else { value }
    }

    /// Values that must not appear in any text.
    pub(crate) fn secrets(&self) -> Vec<SecretString> {
        self.0.iter().filter(|(k, v)| is_secret(k) && !v.expose_secret().is_empty()).map(|(_, v)| v.clone()).collect()
    }
}

/// By the name alone, and rather too often than too rarely: properties of future versions count too.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    // `sasl.oauthbearer.config` and `sasl.jaas.config` hold user and password in one text, `ssl.key.pem` is the key itself.
    const PARTS: [&str; 8] =
        ["password", "secret", "token", "username", "jaas", "oauthbearer.config", "key.pem", "credential"];
    // An address, not a token; useful to see.
    key != "sasl.oauthbearer.token.endpoint.url" && PARTS.iter().any(|part| key.contains(part))
}

impl FromIterator<(String, String)> for Properties {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(iter: I) -> Self {
        Self(iter.into_iter().map(|(k, v)| (k, SecretString::from(v))).collect())
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.exposed().map(|(k, v)| (k, Self::shown(k, v)))).finish()
    }
}

impl PartialEq for Properties {
    fn eq(&self, other: &Self) -> bool {
        self.exposed().eq(other.exposed())
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.exposed() {
            map.serialize_entry(key, Self::shown(key, value))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// librdkafka takes text; TOML users write numbers and booleans as such.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Text(String),
            Bool(bool),
            Int(i64),
            Float(f64),
        }
        let map = BTreeMap::<String, Value>::deserialize(deserializer)?;
        Ok(map
            .into_iter()
            .map(|(key, value)| {
                let text = match value {
                    Value::Text(text) => text,
                    Value::Bool(b) => b.to_string(),
                    Value::Int(i) => i.to_string(),
                    Value::Float(x) => x.to_string(),
                };
                (key, text)
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let keys = [
            "sasl.password",
            "sasl.username",
            "ssl.key.password",
            "ssl.keystore.password",
            "ssl.key.pem",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.config",
        ];
        let mut p: Properties = keys.iter().map(|k| ((*k).to_owned(), "canary".to_owned())).collect();
        p.set("security.protocol", "SASL_SSL");
        for text in [format!("{p:?}"), serde_json::to_string(&p).unwrap()] {
            assert!(!text.contains("canary") && text.contains("SASL_SSL") && text.contains("***"), "{text}");
        }
        assert_eq!(p.secrets().len(), keys.len());
    }

    #[test]
    fn numbers_and_booleans_are_taken_as_text() {
        let p: Properties =
            serde_json::from_str(r#"{"socket.timeout.ms":1000,"enable.ssl.certificate.verification":false}"#).unwrap();
        assert_eq!(
            p.exposed().collect::<Vec<_>>(),
            [("enable.ssl.certificate.verification", "false"), ("socket.timeout.ms", "1000")]
        );
    }
}
