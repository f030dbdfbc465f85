//! One message as one line of JSON.
//!
//! `{"topic":…,"key":…,"headers":{…},"payload":…}`. The payload stands as JSON where it is JSON, its numbers and order
//! untouched and only space between tokens left out; anything else is base64 text, with `"payload_encoding":"base64"`
//! after it. The same for a key that is no UTF-8 (`"key_encoding"`). A header that comes more than once is an array.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use facestream_core::Message;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::check::all_headers;

/// The line, newline included. `extra` fields come last.
pub(crate) fn line(message: &Message, extra: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.payload.len() + 256);
    out.extend_from_slice(b"{\"topic\":");
    text(&mut out, &message.topic);
    out.extend_from_slice(b",\"key\":");
    match std::str::from_utf8(&message.key) {
        Ok(key) => text(&mut out, key),
        Err(_) => encoded(&mut out, &message.key, "key_encoding"),
    }
    out.extend_from_slice(b",\"headers\":");
    let mut headers = Map::new();
    for (name, value) in all_headers(message) {
        let value = Value::from(value);
        match headers.get_mut(name) {
            None => drop(headers.insert(name.to_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    out.extend_from_slice(Value::Object(headers).to_string().as_bytes());
    out.extend_from_slice(b",\"payload\":");
    if is_json(&message.payload) {
        compact(&message.payload, &mut out);
    } else {
        encoded(&mut out, &message.payload, "payload_encoding");
    }
    for (name, value) in extra {
        out.push(b',');
        text(&mut out, name);
        out.push(b':');
        text(&mut out, value);
    }
    out.extend_from_slice(b"}\n");
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(Value::from(text).to_string().as_bytes());
}

fn encoded(out: &mut Vec<u8>, bytes: &[u8], name: &str) {
    text(out, &STANDARD.encode(bytes));
    out.push(b',');
    text(out, name);
    out.extend_from_slice(b":\"base64\"");
}

fn is_json(bytes: &[u8]) -> bool {
    // Skipping a value does not look at the UTF-8 in its strings.
    std::str::from_utf8(bytes).is_ok() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// Leaves out space between tokens, line breaks above all; parsing and writing again would change numbers.
fn compact(json: &[u8], out: &mut Vec<u8>) {
    if !json.iter().any(u8::is_ascii_whitespace) {
        out.extend_from_slice(json);
        return;
    }
    let (mut in_string, mut escaped) = (false, false);
    for &b in json {
        if in_string {
            in_string = escaped || b != b'"';
            escaped = !escaped && b == b'\\';
        } else if b.is_ascii_whitespace() {
            continue;
        } else {
            in_string = b == b'"';
        }
        out.push(b);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::tests::message;

    fn written(payload: &[u8]) -> Value {
        let m = Message { payload: Bytes::copy_from_slice(payload), ..message(1, 0) };
        let line = line(&m, &[]);
        assert_eq!(line.iter().filter(|&&b| b == b'\n').count(), 1);
        assert_eq!(line.last(), Some(&b'\n'));
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn json_stands_as_json_and_numbers_keep_their_digits() {
        let m = Message {
            payload: Bytes::from_static(b"{\n \"b\" : 1.10, \"a\": \"x \\\" y\\\\\", \"n\": 18446744073709551616 }"),
            ..message(1, 0)
        };
        let line = String::from_utf8(line(&m, &[("reason", "why")])).unwrap();
        assert!(
            line.contains(r#""payload":{"b":1.10,"a":"x \" y\\","n":18446744073709551616},"reason":"why"}"#),
            "{line}"
        );
        assert!(line.starts_with(r#"{"topic":"t","key":"cam-1","headers":{"message-id":"#), "{line}");
    }

    #[test]
    fn anything_else_is_base64() {
        for payload in [&b"\xff\x00"[..], b"{", b"", b"\"\xff\"", b"a\nb"] {
            let v = written(payload);
            assert_eq!(v["payload_encoding"], "base64");
            assert_eq!(STANDARD.decode(v["payload"].as_str().unwrap()).unwrap(), payload);
        }
        let m = Message { key: Bytes::from_static(b"\xff"), ..message(1, 0) };
        let v: Value = serde_json::from_slice(&line(&m, &[])).unwrap();
        assert_eq!((v["key"].as_str(), v["key_encoding"].as_str()), (Some("/w=="), Some("base64")));
    }

    #[test]
    fn headers_that_repeat_are_an_array() {
        let mut m = message(1, 0);
        m.headers = [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")].map(|(n, v)| (n.into(), v.into())).to_vec();
        let v: Value = serde_json::from_slice(&line(&m, &[])).unwrap();
        assert_eq!(v["headers"]["a"], serde_json::json!(["1", "3", "4"]));
        assert_eq!(v["headers"]["b"], "2");
    }

    proptest::proptest! {
        #[test]
        fn every_payload_gives_one_line_that_parses(payload: Vec<u8>) {
            written(&payload);
        }
    }
}
