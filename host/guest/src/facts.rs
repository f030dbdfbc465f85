//! What a component's bytes tell beside its interfaces: who made it, and the memories it begins with.
//!
//! Owns reading only. Nothing here is believed by the host; it is shown to people.

use wasmparser::{KnownCustom, Parser, Payload};

/// What is in the bytes of a component for people to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ComponentFacts {
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
    let mut facts = ComponentFacts::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::MemorySection(section)) => {
                for memory in section.into_iter().flatten() {
                    facts.memories.push(MemoryFacts {
                        initial_bytes: memory.initial.saturating_mul(PAGE),
                        maximum_bytes: memory.maximum.map(|pages| pages.saturating_mul(PAGE)),
                    });
                }
            }
            Ok(Payload::CustomSection(section)) => {
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
