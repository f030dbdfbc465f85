//! Log lines under the camera's and the guest's name. The host bounds how many a second it takes.

pub use crate::bindings::tracker::facestream::analytics::log::Level;

/// Writes one line.
pub fn write(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::tracker::facestream::analytics::log::write(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::record_log(level, message);
}

/// Logs at debug level, with `format!`'s arguments.
#[macro_export]
macro_rules! log_debug { ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Debug, &format!($($arg)*)) } }
/// Logs at info level, with `format!`'s arguments.
#[macro_export]
macro_rules! log_info { ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Info, &format!($($arg)*)) } }
/// Logs at warn level, with `format!`'s arguments.
#[macro_export]
macro_rules! log_warn { ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Warn, &format!($($arg)*)) } }
/// Logs at error level, with `format!`'s arguments.
#[macro_export]
macro_rules! log_error { ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Error, &format!($($arg)*)) } }
