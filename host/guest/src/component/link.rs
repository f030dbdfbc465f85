//! What a component is given for its imports: the project's own interfaces, and of WASI an empty one.
//!
//! Owns the linker. Which imports are allowed at all was decided before (`super::inspect`).

use facestream_core::guest::SlotKind;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker, LinkerInstance, ResourceType};
use wasmtime::{Engine, Result};

use super::ComponentInfo;
use crate::bindings::{log, pixels, shots, types};
use crate::host::{HostState, wasi};

/// Everything that a component of this kind may import.
pub(super) fn linker(engine: &Engine, component: &Component, info: &ComponentInfo) -> Result<Linker<HostState>> {
    let mut linker = Linker::<HostState>::new(engine);
    types::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    log::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    if info.kind != SlotKind::Tracker {
        pixels::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        shots::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    }
    for (import, found) in component.component_type().imports(engine) {
        let Some((name, _)) = import.split_once('@').filter(|(name, _)| name.starts_with("wasi:")) else { continue };
        // Under the very version that the component names. First a trap for each function that it imports, then what the
        // empty WASI has in their place. Only of WASI: stubs of our own interfaces would hide those above.
        linker.allow_shadowing(true);
        let mut instance = linker.instance(import)?;
        stub(engine, import, &found.ty, &mut instance)?;
        wasi::define(name, &mut instance)?;
        linker.allow_shadowing(false);
    }
    Ok(linker)
}

/// An interface that is there to be linked: its functions trap when they are called, its resources are nobody's.
fn stub(engine: &Engine, import: &str, found: &ComponentItem, to: &mut LinkerInstance<'_, HostState>) -> Result<()> {
    let ComponentItem::ComponentInstance(interface) = found else { return Ok(()) };
    for (item, found) in interface.exports(engine) {
        match found.ty {
            ComponentItem::ComponentFunc(_) => {
                let name = format!("{import}#{item}");
                to.func_new(item, move |_, _, _, _| {
                    Err(wasmtime::Error::msg(format!("`{name}` is not in the empty WASI that guests get")))
                })?;
            }
            ComponentItem::Resource(_) => to.resource(item, ResourceType::host::<()>(), |_, _| Ok(()))?,
            _ => {}
        }
    }
    Ok(())
}
