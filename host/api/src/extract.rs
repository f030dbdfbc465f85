//! Reading requests: bounded bodies, strict JSON, paths and queries, with problems that point at what is wrong.
//!
//! Must not repeat values of a body in an answer: they may hold a password.

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use serde_path_to_error::Segment;

use crate::control::FieldProblem;
use crate::problem::{Kind, Problem};

/// Largest JSON body, bytes.
pub const MAX_JSON_BYTES: usize = 1 << 20;

/// A JSON body.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        // Asked for strictly: a web page can post a form or plain text anywhere, but JSON only where it is allowed to.
        if !mime_is(request.headers(), "application/json") {
            return Err(Problem::new(Kind::MediaType, "send JSON with the header `content-type: application/json`"));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(Kind::TooLarge, format!("a JSON body may have at most {MAX_JSON_BYTES} bytes"))
            }
            _ => Problem::new(Kind::Malformed, "the body ended early or could not be read"),
        })?;
        parse(&bytes).map(Self)
    }
}

/// Whether the content type is this one, parameters aside.
pub(crate) fn mime_is(headers: &HeaderMap, wanted: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(';').next())
        .is_some_and(|mime| mime.trim().eq_ignore_ascii_case(wanted))
}

/// Parses one JSON document.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.is_empty() {
        return Err(Problem::new(Kind::Malformed, "the body is empty; a JSON object is expected"));
    }
    // First whether it is JSON at all, to its end: of half a body no field can be said to be missing.
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| malformed(&error))?;
    // serde takes a list for a structure too, field by field: an accident waiting for the next field.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::invalid(vec![FieldProblem::new("", "a JSON object is expected")]));
    }
    let mut de = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut de).map_err(|error| {
        let pointer = pointer(error.path());
        let inner = error.into_inner();
        match inner.classify() {
            Category::Data => {
                Problem::invalid(vec![FieldProblem::new(pointer, plain(&without_values(&inner.to_string())))])
            }
            Category::Syntax | Category::Eof | Category::Io => malformed(&inner),
        }
    })
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(Kind::Malformed, format!("the body is no JSON: {}", without_values(&error.to_string())))
}

/// JSON pointer (RFC 6901) of a path.
fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut out = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => out.push_str(&format!("/{index}")),
            Segment::Map { key } => out.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    out
}

/// serde repeats a string that it did not expect, and that may be an address with a password in the wrong field.
fn without_values(message: &str) -> String {
    for start in ["invalid type: string \"", "invalid value: string \""] {
        if let Some(rest) = message.strip_prefix(start)
            && let Some(end) = rest.rfind("\", expected")
        {
            return format!("{}{}", start.trim_end_matches(" \""), &rest[end + 1..]);
        }
    }
    message.to_owned()
}

/// serde names what it expected as Rust does; clients know JSON.
fn plain(message: &str) -> String {
    let Some((said, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let (expected, place) = expected.split_once(" at line ").unwrap_or((expected, ""));
    let json = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => "a whole number within its range",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        text if text == "a map" || text.starts_with("struct ") => "an object",
        text => text,
    };
    let place = if place.is_empty() { String::new() } else { format!(" at line {place}") };
    format!("{said}, expected {json}{place}")
}

/// Parameters in the path.
pub(crate) struct PathParams<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(|rejection: PathRejection| Problem::new(Kind::NoRoute, rejection.body_text()))
    }
}

/// Parameters in the query string.
pub(crate) struct QueryParams<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Query::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection: QueryRejection| Problem::new(Kind::Malformed, rejection.body_text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Sample {
        name: String,
        #[serde(default)]
        inner: Vec<std::collections::BTreeMap<String, u8>>,
    }

    #[track_caller]
    fn check(body: &str, kind: Kind, expected_pointer: Option<&str>) {
        let problem = parse::<Sample>(body.as_bytes()).unwrap_err();
        assert_eq!(problem.kind(), kind, "{problem:?}");
        let text = format!("{problem:?}");
        if let Some(pointer) = expected_pointer {
            assert!(text.contains(&format!("pointer: \"{pointer}\"")), "{text}");
        }
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn problems_point_at_what_is_wrong() {
        check("", Kind::Malformed, None);
        check("{\"name\": ", Kind::Malformed, None);
        check("{\"name\": \"a\"} trailing", Kind::Malformed, None);
        check("[]", Kind::Invalid, Some(""));
        check("[\"a\", []]", Kind::Invalid, Some(""));
        check("{}", Kind::Invalid, Some(""));
        check("{\"name\": 5}", Kind::Invalid, Some("/name"));
        check("{\"name\": \"a\", \"nmae\": 1}", Kind::Invalid, Some("/nmae"));
        check(
            "{\"name\": \"a\", \"inner\": [{\"x/y~\": \"secret\\\", expected\"}]}",
            Kind::Invalid,
            Some("/inner/0/x~1y~0"),
        );
        let said = |body: &str| parse::<Sample>(body.as_bytes()).unwrap_err().detail().to_owned();
        assert_eq!(said(" [\"a\"]"), "a JSON object is expected");
        let number = said("{\"name\": \"a\", \"inner\": [{\"n\": 300}]}");
        let expected = "/inner/0/n: invalid value: integer `300`, expected a whole number within its range at line 1";
        assert!(number.starts_with(expected), "{number}");
        let list = said("{\"name\": \"a\", \"inner\": 3}");
        assert!(list.contains("invalid type: integer `3`, expected a list"), "{list}");
    }
}
