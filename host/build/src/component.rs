//! The step from a core module to a component, and reading what a component asks for.

use wit_component::{ComponentEncoder, DecodedWasm};

use crate::error::BuildError;

/// Makes a component of a module that carries the description of its world; a component stays as it is.
///
/// # Errors
/// When the bytes are no module, or lack what their world wants.
pub fn component(bytes: &[u8]) -> Result<Vec<u8>, BuildError> {
    // Bytes 4 to 8 are version and layer; layer 1 is a component.
    if bytes.starts_with(b"\0asm") && bytes.get(6) == Some(&1) {
        return Ok(bytes.to_vec());
    }
    let encode = || ComponentEncoder::default().validate(true).module(bytes)?.encode();
    encode().map_err(|e| BuildError::Component(format!("{e:#}")))
}

/// Names of what a component imports.
///
/// # Errors
/// When the bytes are no component.
pub fn imports(component: &[u8]) -> Result<Vec<String>, BuildError> {
    let wrong = |e: String| BuildError::Component(e);
    let DecodedWasm::Component(resolve, world) =
        wit_component::decode(component).map_err(|e| wrong(format!("{e:#}")))?
    else {
        return Err(wrong("the bytes are no component".to_owned()));
    };
    Ok(resolve.worlds[world].imports.keys().map(|key| resolve.name_world_key(key)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_stays_and_nonsense_is_refused() {
        let empty = b"\0asm\x0d\0\x01\0";
        assert_eq!(component(empty).unwrap(), empty);
        assert!(imports(empty).unwrap().is_empty());
        assert!(matches!(component(b"nonsense"), Err(BuildError::Component(_))));
    }
}
