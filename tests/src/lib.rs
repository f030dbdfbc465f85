//! What end-to-end tests share: the program as a child process, its REST calls, simulated cameras, guests from text.
#![forbid(unsafe_code)]

pub mod api;
pub mod cameras;
pub mod clips;
pub mod components;
pub mod host;
pub mod kafka;
pub mod messages;
pub mod program;
pub mod recordings;
pub mod registry;
pub mod tls;
pub mod wait;
