//! How the camera moved between two analysed frames, estimated from their luma.
//!
//! Owns the way from two pictures to one similarity (rotation, scale, translation): the frame scaled to a working size,
//! corners spread over it, followed by pyramidal Lucas-Kanade with a check backwards, a robust fit, and the decision
//! whether the result can be believed. It is what BoT-SORT (arXiv 2206.14651, section 3.2) calls camera motion
//! compensation. Must not know cameras, guests or threads.
//!
//! Corners (Shi-Tomasi) and optical flow are the crate `optical-flow-lk`'s, whose fixed-point kernels give the same bits
//! on every x86-64 processor. The robust fit is ours: crates for it (`arrsac` on `sample-consensus`) have not been kept
//! up since 2022 and bring a linear-algebra library for what is a 2-point formula here.
//!
//! Same pictures, same boxes, same answer, bit for bit: nothing here is random, reads a clock or depends on threads.
//!
//! What it cannot know: a picture in which most of the texture moves together (a train that fills the view) looks like a
//! moving camera, unless a third of the points stands still. Changes of exposure between two frames weaken corners.
#![forbid(unsafe_code)]

mod estimator;
mod fit;

pub use estimator::{MotionEstimator, Unknown};
