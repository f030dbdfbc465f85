//! `cargo xtask gpu-test`: what a GPU must compute as the processor does.
//!
//! Owns the call only; the tests are `tests/tests/on_gpu.rs`. Continuous integration has no GPU and does not call it.

use std::path::Path;

use crate::shell;

pub(crate) fn test(root: &Path) -> anyhow::Result<()> {
    crate::setup::run(root)?;
    // One after another: they measure device memory. Each prints what it compared.
    shell::say("tests on the GPU");
    let mut cargo = shell::cargo(root);
    cargo
        .args(["test", "--release", "--workspace", "--test", "on_gpu", "--", "--nocapture", "--test-threads", "1"])
        .env("FACESTREAM_REQUIRE_GPU", "1")
        .env("FACESTREAM_ASSETS", crate::assets(root));
    shell::run(&mut cargo)
}
