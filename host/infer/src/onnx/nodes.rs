//! The nodes of a graph, read and replaced: for families whose graphs can be computed with less work than as they stand.
//!
//! Owns the fields of nodes, attributes and weights that this needs. Must not know what a rewriting is good for: the
//! family does. Whatever is not understood makes the answer `None`, and the model runs as it is.

use std::collections::{BTreeMap, BTreeSet};

use super::wire::{Fields, Malformed, put_bytes, put_varint};
use super::{FLOAT, graph, model, tensor};

pub(super) mod node {
    pub(in crate::onnx) const INPUT: u64 = 1;
    pub(in crate::onnx) const OUTPUT: u64 = 2;
    pub(in crate::onnx) const OP_TYPE: u64 = 4;
    pub(in crate::onnx) const ATTRIBUTE: u64 = 5;
    pub(in crate::onnx) const DOMAIN: u64 = 7;
}
pub(super) mod attribute {
    pub(in crate::onnx) const NAME: u64 = 1;
    pub(in crate::onnx) const INT: u64 = 3;
    pub(in crate::onnx) const INTS: u64 = 8;
    pub(in crate::onnx) const TYPE: u64 = 20;
    /// `AttributeProto.AttributeType`.
    pub(in crate::onnx) const TYPE_INT: u64 = 2;
    pub(in crate::onnx) const TYPE_INTS: u64 = 7;
}

/// One operation.
#[derive(Debug)]
pub(crate) struct Node {
    /// `Conv`, `Relu` and so on; with the domain before it when it is not ONNX's own.
    pub(crate) op: String,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    ints: BTreeMap<String, Vec<i64>>,
}

impl Node {
    /// A list of whole numbers, or one of them, empty when it is not there.
    pub(crate) fn ints(&self, attribute: &str) -> &[i64] {
        self.ints.get(attribute).map_or(&[], Vec::as_slice)
    }

    /// Whether an attribute has this value, or is not there and this is its default.
    pub(crate) fn is(&self, attribute: &str, value: &[i64], default: bool) -> bool {
        self.ints.get(attribute).map_or(default, |v| v == value)
    }
}

/// A weight of 32-bit floats.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Weight {
    pub(crate) dims: Vec<usize>,
    pub(crate) data: Vec<f32>,
}

/// A convolution of a graph with its numbers: `weight` is `[outputs, inputs / group, height, width]`.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    /// The value it reads.
    pub(crate) input: String,
    pub(crate) weight: Weight,
    /// One number an output.
    pub(crate) bias: Vec<f32>,
    pub(crate) stride: i64,
    pub(crate) group: usize,
}

/// The nodes of a model's graph and its weights.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    nodes: Vec<Node>,
    weights: BTreeMap<String, &'a [u8]>,
    outputs: BTreeSet<String>,
}

impl<'a> Graph<'a> {
    /// Reads the graph of a model.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut out = Self { nodes: Vec::new(), weights: BTreeMap::new(), outputs: BTreeSet::new() };
        for field in Fields::new(graph_of(bytes)?) {
            let field = field?;
            match field.number {
                graph::NODE => out.nodes.push(read_node(field.bytes()?)?),
                graph::INITIALIZER => {
                    let tensor = field.bytes()?;
                    out.weights.insert(name_of(tensor)?, tensor);
                }
                graph::OUTPUT => {
                    out.outputs.insert(super::value_info(field.bytes()?)?.name);
                }
                _ => {}
            }
        }
        Ok(out)
    }

    /// The node that makes a value.
    pub(crate) fn maker(&self, value: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.outputs.iter().any(|o| o == value))
    }

    /// The only node that reads a value, when it is read once and is no output.
    pub(crate) fn only_reader(&self, value: &str) -> Option<&Node> {
        let mut readers = self.nodes.iter().filter(|n| n.inputs.iter().any(|i| i == value));
        let reader = readers.next()?;
        (readers.next().is_none() && !self.outputs.contains(value)).then_some(reader)
    }

    /// A weight, when it holds 32-bit floats.
    pub(crate) fn weight(&self, name: &str) -> Option<Weight> {
        read_weight(self.weights.get(name)?).ok().flatten()
    }

    /// A node as a convolution in two dimensions, when it is one with constant weights, a square kernel, padding that
    /// keeps the size, one stride both ways and no dilation.
    pub(crate) fn conv(&self, node: &Node) -> Option<Conv> {
        let [input, weight, bias] = node.inputs.as_slice() else { return None };
        let (weight, bias) = (self.weight(weight)?, self.weight(bias)?);
        let &[outputs, _, height, width] = weight.dims.as_slice() else { return None };
        let stride = match node.ints("strides") {
            [] => 1,
            [a, b] if a == b => *a,
            _ => return None,
        };
        let half = i64::try_from(height / 2).ok()?;
        let group = match node.ints("group") {
            [] => 1,
            [group] => usize::try_from(*group).ok()?,
            _ => return None,
        };
        let fits = node.op == "Conv"
            && height == width
            && height % 2 == 1
            && bias.dims == [outputs]
            && node.is("pads", &[half; 4], half == 0)
            && node.is("dilations", &[1, 1], true)
            && !node.ints.contains_key("auto_pad");
        fits.then(|| Conv { input: input.clone(), weight, bias: bias.data, stride, group })
    }
}

/// What is put in the place of nodes that are taken out.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// Nodes that make one of these values go.
    pub(crate) gone: BTreeSet<String>,
    nodes: Vec<Vec<u8>>,
    weights: Vec<Vec<u8>>,
    outputs: Option<Vec<Vec<u8>>>,
    input: Option<Vec<u8>>,
}

impl Change {
    /// Adds a convolution of stride 1 that keeps the size. Its weights are named after its output.
    pub(crate) fn add_conv(&mut self, conv: &Conv, output: &str) {
        let (weight, bias) = (format!("{output}.weight"), format!("{output}.bias"));
        let side = conv.weight.dims.get(2).copied().unwrap_or(1) as i64;
        let mut out = Vec::new();
        for input in [conv.input.as_str(), &weight, &bias] {
            put_bytes(&mut out, node::INPUT, input.as_bytes());
        }
        put_bytes(&mut out, node::OUTPUT, output.as_bytes());
        put_bytes(&mut out, node::OP_TYPE, b"Conv");
        for (name, value) in [("kernel_shape", vec![side; 2]), ("pads", vec![side / 2; 4]), ("strides", vec![1, 1])] {
            put_bytes(&mut out, node::ATTRIBUTE, &ints(name, &value));
        }
        let mut group = Vec::new();
        put_bytes(&mut group, attribute::NAME, b"group");
        put_number(&mut group, attribute::INT, conv.group as u64);
        put_number(&mut group, attribute::TYPE, attribute::TYPE_INT);
        put_bytes(&mut out, node::ATTRIBUTE, &group);
        self.nodes.push(out);
        self.weights.push(write_weight(&weight, &conv.weight));
        self.weights.push(write_weight(&bias, &Weight { dims: vec![conv.bias.len()], data: conv.bias.clone() }));
    }

    /// Replaces all outputs by these: names and channels of `[batch, channels, height, width]`.
    pub(crate) fn set_outputs(&mut self, outputs: &[(String, i64)]) {
        self.outputs = Some(outputs.iter().map(|(name, channels)| write_value(name, *channels)).collect());
    }

    /// Makes a value of the graph its only input, `[batch, channels, height, width]`.
    pub(crate) fn set_input(&mut self, name: &str, channels: i64) {
        self.input = Some(write_value(name, channels));
    }

    /// The model with the change made. New nodes come after those that stay, so they may read any value.
    pub(crate) fn apply(&self, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut changed = Vec::with_capacity(bytes.len());
        for field in Fields::new(graph_of(bytes)?) {
            let field = field?;
            let gone = match field.number {
                graph::NODE => read_node(field.bytes()?)?.outputs.iter().any(|o| self.gone.contains(o)),
                graph::OUTPUT => self.outputs.is_some(),
                graph::INPUT => self.input.is_some(),
                // Shapes of inner values are worked out anew.
                graph::VALUE_INFO => true,
                _ => false,
            };
            if !gone {
                changed.extend_from_slice(field.raw);
            }
        }
        let new = [
            (graph::NODE, self.nodes.as_slice()),
            (graph::INITIALIZER, &self.weights),
            (graph::INPUT, self.input.as_slice()),
            (graph::OUTPUT, self.outputs.as_deref().unwrap_or_default()),
        ];
        for (number, messages) in new {
            for message in messages {
                put_bytes(&mut changed, number, message);
            }
        }
        super::rewrite(bytes, model::GRAPH, &mut |_| Ok(changed.clone()))
    }
}

fn graph_of(bytes: &[u8]) -> Result<&[u8], Malformed> {
    for field in Fields::new(bytes) {
        let field = field?;
        if field.number == model::GRAPH {
            return field.bytes();
        }
    }
    Err(Malformed)
}

fn read_node(bytes: &[u8]) -> Result<Node, Malformed> {
    let mut out = Node { op: String::new(), inputs: Vec::new(), outputs: Vec::new(), ints: BTreeMap::new() };
    let mut domain = String::new();
    for field in Fields::new(bytes) {
        let field = field?;
        match field.number {
            node::INPUT => out.inputs.push(field.text()?),
            node::OUTPUT => out.outputs.push(field.text()?),
            node::OP_TYPE => out.op = field.text()?,
            node::DOMAIN => domain = field.text()?,
            node::ATTRIBUTE => {
                let (mut name, mut values) = (String::new(), Vec::new());
                for part in Fields::new(field.bytes()?) {
                    let part = part?;
                    match part.number {
                        attribute::NAME => name = part.text()?,
                        attribute::INT | attribute::INTS => {
                            values.extend(part.numbers()?.into_iter().map(u64::cast_signed))
                        }
                        _ => {}
                    }
                }
                out.ints.insert(name, values);
            }
            _ => {}
        }
    }
    if !domain.is_empty() {
        out.op = format!("{domain}.{}", out.op);
    }
    Ok(out)
}

fn name_of(tensor: &[u8]) -> Result<String, Malformed> {
    for field in Fields::new(tensor) {
        let field = field?;
        if field.number == tensor::NAME {
            return field.text();
        }
    }
    Ok(String::new())
}

/// `None` for other elements than floats, and where the numbers are not as many as the shape says.
fn read_weight(bytes: &[u8]) -> Result<Option<Weight>, Malformed> {
    let (mut out, mut element) = (Weight { dims: Vec::new(), data: Vec::new() }, 0);
    for field in Fields::new(bytes) {
        let field = field?;
        match field.number {
            tensor::DIMS => {
                out.dims.extend(field.numbers()?.into_iter().map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
            }
            tensor::DATA_TYPE => element = field.varint()?,
            tensor::FLOAT_DATA | tensor::RAW_DATA => {
                out.data.extend(field.bytes()?.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
            }
            _ => {}
        }
    }
    let count = out.dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    Ok((element == FLOAT && count == Some(out.data.len())).then_some(out))
}

fn write_weight(name: &str, weight: &Weight) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 * weight.data.len() + 64);
    for dim in &weight.dims {
        put_number(&mut out, tensor::DIMS, *dim as u64);
    }
    put_number(&mut out, tensor::DATA_TYPE, FLOAT);
    put_bytes(&mut out, tensor::NAME, name.as_bytes());
    let data: Vec<u8> = weight.data.iter().flat_map(|v| v.to_le_bytes()).collect();
    put_bytes(&mut out, tensor::RAW_DATA, &data);
    out
}

/// ValueInfoProto: name 1, type 2 (tensor_type 1: elem_type 1, shape 2: dim 1: dim_value 1).
fn write_value(name: &str, channels: i64) -> Vec<u8> {
    let mut shape = Vec::new();
    for axis in 0..4 {
        let mut dim = Vec::new();
        if axis == 1 {
            put_number(&mut dim, 1, channels.cast_unsigned());
        }
        put_bytes(&mut shape, 1, &dim);
    }
    let (mut tensor, mut kind, mut out) = (Vec::new(), Vec::new(), Vec::new());
    put_number(&mut tensor, 1, FLOAT);
    put_bytes(&mut tensor, 2, &shape);
    put_bytes(&mut kind, 1, &tensor);
    put_bytes(&mut out, 1, name.as_bytes());
    put_bytes(&mut out, 2, &kind);
    out
}

fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, attribute::NAME, name.as_bytes());
    for value in values {
        put_number(&mut out, attribute::INTS, value.cast_unsigned());
    }
    put_number(&mut out, attribute::TYPE, attribute::TYPE_INTS);
    out
}

fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(out, field << 3);
    put_varint(out, value);
}
