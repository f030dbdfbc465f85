//! What every message must be before any sink sees it.
//!
//! Messages come from guests: names are checked because they become file names, C strings and metric labels.

use facestream_core::Message;

use crate::status::RefuseReason;

/// Kafka's own bound for topics, taken for header names too.
const MAX_NAME: usize = 249;
const MAX_HEADERS: usize = 64;
/// Header values together.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Kafka's rule (`org.apache.kafka.common.internals.Topic`): 1 to 249 of `A-Z a-z 0-9 . _ -`, and not `.` or `..`.
#[must_use]
pub fn topic_is_valid(topic: &str) -> bool {
    (1..=MAX_NAME).contains(&topic.len())
        && topic != "."
        && topic != ".."
        && topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Whether a message can be taken at all.
pub(crate) fn check(message: &Message) -> Result<(), RefuseReason> {
    if !topic_is_valid(&message.topic) {
        return Err(RefuseReason::InvalidTopic);
    }
    // librdkafka takes names as C strings: a NUL inside would cut or, in its Rust binding, panic.
    let name_ok = |name: &str| (1..=MAX_NAME).contains(&name.len()) && !name.contains('\0');
    let total: usize = message.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
    let ok = message.headers.len() <= MAX_HEADERS
        && total <= MAX_HEADER_BYTES
        && message.content_type.len() <= MAX_NAME
        && message.headers.iter().all(|(name, _)| name_ok(name));
    if ok { Ok(()) } else { Err(RefuseReason::InvalidHeader) }
}

/// Headers as sinks write them: the formatter's, then `message-id` and `content-type` where it gave none.
pub(crate) fn all_headers(message: &Message) -> impl Iterator<Item = (&str, &str)> {
    let given = |name: &str| message.headers.iter().any(|(n, _)| n == name);
    // The id is ours: a formatter's own of that name would break the dropping of duplicates.
    let own = message.headers.iter().filter(|(n, _)| n != "message-id").map(|(n, v)| (n.as_str(), v.as_str()));
    let content_type = (!message.content_type.is_empty() && !given("content-type"))
        .then_some(("content-type", message.content_type.as_str()));
    own.chain([("message-id", message.id.0.as_str())]).chain(content_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::message;

    #[test]
    fn topics_follow_kafkas_rule() {
        let long = "x".repeat(249);
        for good in ["a", "gate-metric-detections", "detectionMega", "A.b_c-9", "...", &long] {
            assert!(topic_is_valid(good), "{good}");
        }
        let longer = "x".repeat(250);
        for bad in ["", ".", "..", "a/b", "../x", "a b", "ä", "a\0", "a\n", &longer] {
            assert!(!topic_is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn names_that_would_break_c_strings_are_refused() {
        let mut m = message(1, 1);
        assert_eq!(check(&m), Ok(()));
        for name in ["", "a\0b", &"x".repeat(250)] {
            m.headers = vec![(name.to_owned(), "v".to_owned())];
            assert_eq!(check(&m), Err(RefuseReason::InvalidHeader), "{name:?}");
        }
        m.headers = vec![("h".to_owned(), "v".to_owned()); 65];
        assert_eq!(check(&m), Err(RefuseReason::InvalidHeader));
    }

    #[test]
    fn the_message_id_is_ours() {
        let mut m = message(1, 1);
        m.headers = vec![("message-id".into(), "forged".into()), ("x".into(), "y".into())];
        let ids: Vec<_> = all_headers(&m).filter(|h| h.0 == "message-id").map(|h| h.1).collect();
        assert_eq!(ids, [m.id.0.as_str()]);
    }
}
