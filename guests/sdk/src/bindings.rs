//! Generated from `wit/`: the types and functions as they cross the boundary.
//!
//! Owns nothing by hand. Guests use the crate's own modules instead; only the export macros name these.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]

pub mod tracker {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "tracker",
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
        pub_export_macro: true,
        export_macro_name: "export_tracker_world",
        default_bindings_module: "facestream_guest::bindings::tracker",
    });
}

pub mod scorer {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "scorer",
        with: {
            "facestream:analytics/types@0.1.1": crate::bindings::tracker::facestream::analytics::types,
            "facestream:analytics/log@0.1.1": crate::bindings::tracker::facestream::analytics::log,
        },
        pub_export_macro: true,
        export_macro_name: "export_scorer_world",
        default_bindings_module: "facestream_guest::bindings::scorer",
    });
}

pub mod formatter {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "formatter",
        with: {
            "facestream:analytics/types@0.1.1": crate::bindings::tracker::facestream::analytics::types,
            "facestream:analytics/log@0.1.1": crate::bindings::tracker::facestream::analytics::log,
            "facestream:analytics/pixels@0.1.1": crate::bindings::scorer::facestream::analytics::pixels,
            "facestream:analytics/shots@0.1.1": crate::bindings::scorer::facestream::analytics::shots,
        },
        pub_export_macro: true,
        export_macro_name: "export_formatter_world",
        default_bindings_module: "facestream_guest::bindings::formatter",
    });
}
