//! Log lines under the camera's and the guest's name. The host bounds how many a second it takes.

pub use crate::bindings::tracker::facestream::analytics::log::Level;

/// Writes one line.
pub fn write(level: Level, message: &str) {
    #[cfg(all(target_arch = "wasm32", not(feature = "fake-host")))]
    crate::bindings::tracker::facestream::analytics::log::write(level, message);
    #[cfg(not(all(target_arch = "wasm32", not(feature = "fake-host"))))]
    crate::testing::record_log(level, message);
}

/// Whether the host would show a line of this level. The macros ask before they format; what a guest answers must not
/// depend on it.
#[must_use]
pub fn enabled(level: Level) -> bool {
    #[cfg(all(target_arch = "wasm32", not(feature = "fake-host")))]
    return crate::bindings::tracker::facestream::analytics::log::enabled(level);
    #[cfg(not(all(target_arch = "wasm32", not(feature = "fake-host"))))]
    crate::testing::log_enabled(level)
}

/// From now on a panic's words and place are logged before the instance ends: the host sees a trap alone.
pub(crate) fn tell_panics() {
    #[cfg(all(target_arch = "wasm32", not(feature = "fake-host")))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| write(Level::Error, &panic.to_string()))));
    }
}

/// Logs at a level, with `format!`'s arguments; nothing is formatted when nobody would see the line.
#[macro_export]
macro_rules! log_at {
    ($level:expr, $($arg:tt)*) => {
        if $crate::log::enabled($level) {
            $crate::log::write($level, &format!($($arg)*));
        }
    };
}
/// Logs at debug level, with `format!`'s arguments.
#[macro_export]
macro_rules! log_debug { ($($arg:tt)*) => { $crate::log_at!($crate::log::Level::Debug, $($arg)*) } }
/// Logs at info level, with `format!`'s arguments.
#[macro_export]
macro_rules! log_info { ($($arg:tt)*) => { $crate::log_at!($crate::log::Level::Info, $($arg)*) } }
/// Logs at warn level, with `format!`'s arguments.
#[macro_export]
macro_rules! log_warn { ($($arg:tt)*) => { $crate::log_at!($crate::log::Level::Warn, $($arg)*) } }
/// Logs at error level, with `format!`'s arguments.
#[macro_export]
macro_rules! log_error { ($($arg:tt)*) => { $crate::log_at!($crate::log::Level::Error, $($arg)*) } }

#[cfg(test)]
mod tests {
    use super::Level;
    use crate::testing;

    #[test]
    fn lines_that_nobody_sees_are_not_even_formatted() {
        testing::set_log_level(Level::Warn);
        let mut formatted = 0;
        let mut costly = || {
            formatted += 1;
            formatted
        };
        log_debug!("{}", costly());
        log_info!("{}", costly());
        log_warn!("{}", costly());
        log_error!("{}", costly());
        testing::set_log_level(Level::Trace);
        log_debug!("{}", costly());
        let texts: Vec<_> = testing::take_logs().into_iter().map(|(level, text)| (level as u8, text)).collect();
        assert_eq!(texts, [(3, "1".to_owned()), (4, "2".to_owned()), (1, "3".to_owned())]);
    }
}
