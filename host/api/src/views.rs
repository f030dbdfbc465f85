//! What goes over the wire: request bodies with their checks, answers, and their schemas.
//!
//! Owns the shapes. A body becomes one of core's types here or is refused with everything that is wrong with it at once.

pub(crate) mod requests;
pub(crate) mod responses;
pub(crate) mod rollouts;
pub(crate) mod slot_requests;
pub(crate) mod slots;
pub(crate) mod trials;
