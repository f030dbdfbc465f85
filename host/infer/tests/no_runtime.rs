//! What happens where ONNX Runtime is not: its own process, because a process loads one library for good.

use facestream_infer::{InferConfig, InferError, available};

#[test]
fn a_missing_library_is_an_error_that_says_what_to_do() {
    let config = InferConfig { runtime_library: Some("/nowhere/libonnxruntime.so".into()), ..InferConfig::default() };
    let error = available(&config).unwrap_err();
    assert!(matches!(error, InferError::Runtime { .. }));
    let text = error.to_string();
    assert!(text.contains("/nowhere/libonnxruntime.so") && text.contains("cargo xtask setup"), "{text}");

    // A file that is no library, and a library that is not ONNX Runtime; then the right one still loads.
    let not_a_library = InferConfig { runtime_library: Some("/etc/hostname".into()), ..InferConfig::default() };
    assert!(matches!(available(&not_a_library), Err(InferError::Runtime { .. })));
    let runtime = facestream_test_support::asset_or_skip!("onnxruntime/libonnxruntime.so");
    let right = InferConfig { runtime_library: Some(runtime), ..InferConfig::default() };
    assert!(available(&right).unwrap().build.contains("ORT"));
    assert!(matches!(available(&config), Err(InferError::OtherRuntime { .. })));
    assert!(available(&InferConfig { runtime_library: None, ..right }).is_ok());
}
