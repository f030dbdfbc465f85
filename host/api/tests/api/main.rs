//! The API as a client sees it, over an in-memory test double of the host.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "modules of one test binary; an unwrap that fails is a test that fails"
)]

mod access;
mod audit;
mod client;
mod contract;
mod fake;
mod legacy;
mod resources;
mod rollouts;
mod slots;
mod socket;
mod stream;
mod trials;
