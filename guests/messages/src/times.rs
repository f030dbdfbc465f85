//! Times as messages write them: RFC 3339 in UTC with a `Z`.

use facestream_guest::GuestError;
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

const SECONDS: &[FormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const MILLIS: &[FormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

fn format(unix_ns: u64, how: &[FormatItem<'_>]) -> Result<String, GuestError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ns))
        .map_err(|e| GuestError::failed(format!("capture time {unix_ns} ns is no date: {e}")))?
        .format(how)
        .map_err(|e| GuestError::failed(format!("capture time {unix_ns} ns cannot be written: {e}")))
}

/// `2026-02-11T08:56:12Z`; fractions are cut off.
///
/// # Errors
/// Never for the range of u64 nanoseconds (until the year 2554); the formatter's own error is passed on.
pub fn rfc3339_seconds(unix_ns: u64) -> Result<String, GuestError> {
    format(unix_ns, SECONDS)
}

/// `2026-02-11T08:56:12.345Z`.
///
/// # Errors
/// As [`rfc3339_seconds`].
pub fn rfc3339_millis(unix_ns: u64) -> Result<String, GuestError> {
    format(unix_ns, MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        assert_eq!(rfc3339_seconds(0).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_seconds(1_770_800_172_999_999_999).unwrap(), "2026-02-11T08:56:12Z");
        assert_eq!(rfc3339_millis(1_770_800_172_345_999_999).unwrap(), "2026-02-11T08:56:12.345Z");
        assert_eq!(rfc3339_seconds(951_782_400_000_000_000).unwrap(), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339_seconds(u64::MAX).unwrap(), "2554-07-21T23:34:33Z");
    }
}
