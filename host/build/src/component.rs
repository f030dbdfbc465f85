//! The step from a core module to a component, and reading what a component asks for.

use wasm_encoder::{ComponentSection as _, CustomSection};
use wasm_metadata::{AddMetadata, AddMetadataField};
use wasmparser::{ComponentName, KnownCustom, Parser, Payload};
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

/// Writes a name and a version into a component that says none, where `cargo component` and other tools write them too.
///
/// # Errors
/// When the bytes are no component.
pub fn named(component: Vec<u8>, name: &str, version: Option<&str>) -> Result<Vec<u8>, BuildError> {
    let (has_name, has_version) = says(&component).map_err(|e| BuildError::Component(e.to_string()))?;
    let mut component = component;
    if !has_name {
        let mut add = AddMetadata::default();
        add.name = AddMetadataField::Set(name.to_owned());
        component = add.to_wasm(&component).map_err(|e| BuildError::Component(format!("{e:#}")))?;
    }
    if let Some(version) = version.filter(|_| !has_version) {
        CustomSection { name: "version".into(), data: version.as_bytes().into() }.append_to_component(&mut component);
    }
    Ok(component)
}

/// Whether the component itself, not what is inside of it, says its name and its version.
fn says(component: &[u8]) -> wasmparser::Result<(bool, bool)> {
    let (mut depth, mut name, mut version) = (0_u32, false, false);
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 => match section.as_known() {
                KnownCustom::ComponentName(names) => {
                    name |= names.into_iter().any(|n| matches!(n, Ok(ComponentName::Component { .. })));
                }
                _ => version |= section.name() == "version",
            },
            _ => {}
        }
    }
    Ok((name, version))
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

    #[test]
    fn a_component_is_named_once() {
        let once = named(b"\0asm\x0d\0\x01\0".to_vec(), "mine", Some("1.2.3")).unwrap();
        assert!(imports(&once).unwrap().is_empty(), "it is a component still");
        assert_eq!(says(&once).unwrap(), (true, true));
        assert_eq!(named(once.clone(), "other", Some("2.0.0")).unwrap(), once, "what it says itself stays");
        assert!(matches!(named(b"nonsense".to_vec(), "mine", None), Err(BuildError::Component(_))));
    }
}
