//! What a component's bytes tell beside its interfaces: who made it, and the memories it begins with.
//!
//! Owns reading only. Nothing here is believed by the host; it is shown to people, and `guest push` takes the name and the
//! version from it unless others are given.

use wasmparser::{ComponentName, KnownCustom, Parser, Payload};

/// What is in the bytes of a component for people to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ComponentFacts {
    /// The name that it says it has: whoever made it wrote it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Languages and tools that say they made it, `name version`, each once.
    pub producers: Vec<String>,
    /// Linear memories of its core modules.
    pub memories: Vec<MemoryFacts>,
}

/// One linear memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MemoryFacts {
    /// Bytes that it begins with.
    pub initial_bytes: u64,
    /// Bytes that it may grow to by its own declaration; the host's limit is another.
    pub maximum_bytes: Option<u64>,
}

/// Bytes of a page of WebAssembly memory.
const PAGE: u64 = 65_536;
/// A producers section is anyone's to write: so many names are shown.
const MAX_PRODUCERS: usize = 32;

/// Reads what is there; what cannot be read is left out, because `inspect` has already said whether the bytes are sound.
#[must_use]
pub fn facts(bytes: &[u8]) -> ComponentFacts {
    let (mut facts, mut depth) = (ComponentFacts::default(), 0_u32);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::MemorySection(section)) => {
                for memory in section.into_iter().flatten() {
                    facts.memories.push(MemoryFacts {
                        initial_bytes: memory.initial.saturating_mul(PAGE),
                        maximum_bytes: memory.maximum.map(|pages| pages.saturating_mul(PAGE)),
                    });
                }
            }
            // Modules and components inside of it have names of their own.
            Ok(Payload::CustomSection(section)) if depth == 0 && section.name() == "version" => {
                facts.version = std::str::from_utf8(section.data()).ok().and_then(word);
            }
            Ok(Payload::CustomSection(section)) => {
                if let (0, KnownCustom::ComponentName(names)) = (depth, section.as_known()) {
                    let of_itself = |name| match name {
                        Ok(ComponentName::Component { name, .. }) => word(name),
                        _ => None,
                    };
                    facts.name = names.into_iter().find_map(of_itself).or(facts.name);
                    continue;
                }
                let KnownCustom::Producers(fields) = section.as_known() else { continue };
                for value in fields.into_iter().flatten().flat_map(|field| field.values.into_iter().flatten()) {
                    let text = format!("{} {}", value.name, value.version);
                    let text = crate::error::one_line(text.trim(), 96);
                    if !facts.producers.contains(&text) && facts.producers.len() < MAX_PRODUCERS {
                        facts.producers.push(text);
                    }
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    facts
}

/// A name or a version, when it is one that could be meant.
fn word(text: &str) -> Option<String> {
    let text = crate::error::one_line(text.trim(), 96);
    (!text.is_empty()).then_some(text)
}
