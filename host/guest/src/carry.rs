//! How a guest takes over what another one leaves: private state where it reads that, else the neutral form.
//!
//! Owns the order and what each refusal means; a swap, a dry run, a candidate and a replay are all made of it, so that
//! they cannot tell different stories. Must not know what kind of guest it is.

use crate::convert::Snapshot;
use crate::error::GuestFailure;

/// The guest's own state came along: it has the same schema.
pub(crate) const PRIVATE: &str = "private";
/// Live tracks or held shots came along, in the contract's form.
pub(crate) const NEUTRAL: &str = "neutral";
/// Nothing came along.
pub(crate) const NONE: &str = "none";

/// Gives a fresh instance, whose own state has `schema`, what is left; answers what came along. `neutral`: whether the
/// neutral form is worth a try after the private one.
///
/// # Errors
/// A failure of the instance; that it does not read a state is none.
pub(crate) fn carry(
    saved: Option<&Snapshot>,
    schema: &str,
    neutral: bool,
    mut restore: impl FnMut(&Snapshot) -> Result<(), GuestFailure>,
) -> Result<&'static str, GuestFailure> {
    if let Some(saved) = saved {
        match restore(saved) {
            Ok(()) => return Ok(if saved.schema == schema { PRIVATE } else { NEUTRAL }),
            Err(GuestFailure::Refused(_)) => {}
            Err(failure) => return Err(failure),
        }
    }
    if !neutral {
        return Ok(NONE);
    }
    match restore(&Snapshot::default()) {
        Ok(()) => Ok(NEUTRAL),
        Err(failure) if failure.is_unsupported_state() => Ok(NONE),
        Err(failure) => Err(failure),
    }
}
