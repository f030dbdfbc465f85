//! The API as a client sees it, over an in-memory test double of the host.
#![allow(unreachable_pub, reason = "modules of one test binary")]

mod access;
mod client;
mod contract;
mod fake;
mod legacy;
mod resources;
mod socket;
mod stream;
