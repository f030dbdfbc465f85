//! A plain TensorRT engine as an ONNX model: one `EPContext` node, which ONNX Runtime hands to TensorRT as it is.
//!
//! Owns the bytes of that model (ONNX Runtime, "EP context design"; `com.microsoft::EPContext` in its contrib operators).
//! Knows nothing of engines: an engine of another GPU or TensorRT version fails when it is loaded.

use super::nodes::{attribute, node};
use super::wire::{put_bytes, put_varint};
use super::{Description, Dim, TensorInfo, graph, model};

/// Field numbers of the messages written here (onnx.proto3).
mod field {
    pub(super) const NODE_NAME: u64 = 3;
    pub(super) const ATTRIBUTE_STRING: u64 = 4;
    pub(super) const GRAPH_NAME: u64 = 2;
    pub(super) const VALUE_NAME: u64 = 1;
    pub(super) const VALUE_TYPE: u64 = 2;
    pub(super) const TENSOR_TYPE: u64 = 1;
    pub(super) const ELEMENT: u64 = 1;
    pub(super) const SHAPE: u64 = 2;
    pub(super) const DIM: u64 = 1;
    pub(super) const DIM_VALUE: u64 = 1;
    pub(super) const DIM_NAME: u64 = 2;
    pub(super) const OPSET_DOMAIN: u64 = 1;
    pub(super) const OPSET_VERSION: u64 = 2;
}

/// AttributeProto.AttributeType.
const TYPE_INT: u64 = 2;
const TYPE_STRING: u64 = 3;

fn put_int(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3);
    put_varint(out, value);
}

fn message(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn value_info(tensor: &TensorInfo) -> Vec<u8> {
    let shape = message(|out| {
        for (axis, dim) in tensor.dims.iter().enumerate() {
            let dim = message(|out| match dim {
                Dim::Fixed(n) => put_int(out, field::DIM_VALUE, *n as u64),
                // Nameless free extents of one axis are taken for the same one.
                Dim::Free(name) if name.is_empty() => put_bytes(out, field::DIM_NAME, format!("d{axis}").as_bytes()),
                Dim::Free(name) => put_bytes(out, field::DIM_NAME, name.as_bytes()),
            });
            put_bytes(out, field::DIM, &dim);
        }
    });
    let kind = message(|out| {
        put_int(out, field::ELEMENT, tensor.element);
        put_bytes(out, field::SHAPE, &shape);
    });
    let of = message(|out| put_bytes(out, field::TENSOR_TYPE, &kind));
    message(|out| {
        put_bytes(out, field::VALUE_NAME, tensor.name.as_bytes());
        put_bytes(out, field::VALUE_TYPE, &of);
    })
}

/// The model that holds `engine`, whose inputs and outputs are those of `description`.
#[must_use]
pub fn wrap_engine(engine: &[u8], description: &Description) -> Vec<u8> {
    let int = |name: &str, value: u64| {
        message(|out| {
            put_bytes(out, attribute::NAME, name.as_bytes());
            put_int(out, attribute::INT, value);
            put_int(out, attribute::TYPE, TYPE_INT);
        })
    };
    let node = message(|out| {
        for input in &description.inputs {
            put_bytes(out, node::INPUT, input.name.as_bytes());
        }
        for output in &description.outputs {
            put_bytes(out, node::OUTPUT, output.name.as_bytes());
        }
        put_bytes(out, field::NODE_NAME, b"engine");
        put_bytes(out, node::OP_TYPE, b"EPContext");
        put_bytes(out, node::ATTRIBUTE, &int("main_context", 1));
        // The engine is in the model itself, not in a file beside it.
        put_bytes(out, node::ATTRIBUTE, &int("embed_mode", 1));
        let context = message(|out| {
            put_bytes(out, attribute::NAME, b"ep_cache_context");
            put_bytes(out, field::ATTRIBUTE_STRING, engine);
            put_int(out, attribute::TYPE, TYPE_STRING);
        });
        put_bytes(out, node::ATTRIBUTE, &context);
        put_bytes(out, node::DOMAIN, b"com.microsoft");
    });
    let graph = message(|out| {
        put_bytes(out, graph::NODE, &node);
        put_bytes(out, field::GRAPH_NAME, b"engine");
        for input in &description.inputs {
            put_bytes(out, graph::INPUT, &value_info(input));
        }
        for output in &description.outputs {
            put_bytes(out, graph::OUTPUT, &value_info(output));
        }
    });
    message(|out| {
        put_int(out, model::IR_VERSION, 8);
        put_bytes(out, model::GRAPH, &graph);
        for (domain, version) in [("", 16), ("com.microsoft", 1)] {
            let opset = message(|out| {
                put_bytes(out, field::OPSET_DOMAIN, domain.as_bytes());
                put_int(out, field::OPSET_VERSION, version);
            });
            put_bytes(out, model::OPSET_IMPORT, &opset);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::{FLOAT, describe};
    use super::*;

    #[test]
    fn the_wrapper_says_what_it_was_told_and_holds_the_engine_once() {
        let tensor =
            |name: &str, dims: &[Dim]| TensorInfo { name: name.to_owned(), element: FLOAT, dims: dims.to_vec() };
        let free = || Dim::Free("batch".to_owned());
        let told = Description {
            inputs: vec![tensor("images", &[free(), Dim::Fixed(3), Dim::Fixed(640), Dim::Fixed(640)])],
            outputs: vec![tensor("output0", &[free(), Dim::Fixed(5), Dim::Fixed(8400)])],
            ..Description::default()
        };
        let engine = b"an engine of eleven bytes and more";
        let model = wrap_engine(engine, &told);
        let read = describe(&model).unwrap();
        assert_eq!((read.inputs, read.outputs), (told.inputs, told.outputs));
        assert_eq!(model.windows(engine.len()).filter(|w| w == engine).count(), 1);
        assert!(model.windows(9).any(|w| w == b"EPContext"));
    }
}
