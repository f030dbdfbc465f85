//! Rust types and calls generated from `wit/`.
//!
//! Owns nothing but the generated code: types are made once (in `values`, `tracker` and `scorer`) and shared by the other
//! worlds. `types` is the generated interface with the two records in it that `records` lowers and lifts by hand.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::let_underscore_must_use)]

use std::sync::Arc;

use facestream_core::Picture;

/// A frame lent for the length of one call.
pub struct LentFrame {
    pub picture: Arc<dyn Picture>,
}

/// A crop that a guest owns; its bytes count against the guest's budget until it is dropped.
pub struct HeldCrop {
    pub picture: Arc<dyn Picture>,
    pub bytes: u64,
    /// Which piece of which frame it is.
    pub origin: crate::record::CropOrigin,
}

mod values {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package facestream:host; world values { import facestream:analytics/types@0.1.1; }",
        world: "facestream:host/values",
    });
}

/// `wit/types.wit` with code derived for all of it.
pub use values::facestream::analytics::types as derived;

pub mod types {
    pub use super::derived::*;
    pub use crate::records::{Detection, Track};
}

pub mod tracker {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "tracker",
        imports: { default: trappable },
        with: { "facestream:analytics/types": crate::bindings::types },
    });
}

pub mod scorer {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "scorer",
        imports: { default: trappable },
        with: {
            "facestream:analytics/types": crate::bindings::types,
            "facestream:analytics/log": crate::bindings::tracker::facestream::analytics::log,
            "facestream:analytics/pixels.frame": crate::bindings::LentFrame,
            "facestream:analytics/pixels.crop": crate::bindings::HeldCrop,
        },
    });
}

pub mod formatter {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "formatter",
        imports: { default: trappable },
        with: {
            "facestream:analytics/types": crate::bindings::types,
            "facestream:analytics/log": crate::bindings::tracker::facestream::analytics::log,
            "facestream:analytics/pixels": crate::bindings::scorer::facestream::analytics::pixels,
            "facestream:analytics/shots": crate::bindings::scorer::facestream::analytics::shots,
        },
    });
}

pub use formatter::exports::facestream::analytics::formatting;
pub use scorer::facestream::analytics::{pixels, shots};
pub use tracker::facestream::analytics::log;
