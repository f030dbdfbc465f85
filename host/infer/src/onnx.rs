//! ONNX files: what a graph takes and gives, and the mending that lets ONNX Runtime run it fast and at any size.
//!
//! Owns the few message fields that this needs (numbers from onnx.proto3 of ONNX 1.20). Must not know model families
//! and must not run anything. Works on the wire format, so whatever it does not understand stays as it was.

mod engine;
pub(crate) mod nodes;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use engine::wrap_engine;
#[cfg(test)]
use wire::put_varint;
use wire::{Fields, Malformed, put_bytes};

/// Larger files are refused: detectors of cameras have a few megabytes, and a protocol buffer ends at 2 GiB anyway.
pub const MAX_MODEL_BYTES: u64 = 1 << 30;

mod model {
    pub(super) const IR_VERSION: u64 = 1;
    pub(super) const GRAPH: u64 = 7;
    pub(super) const OPSET_IMPORT: u64 = 8;
    pub(super) const METADATA: u64 = 14;
}
mod graph {
    pub(super) const NODE: u64 = 1;
    pub(super) const INITIALIZER: u64 = 5;
    pub(super) const INPUT: u64 = 11;
    pub(super) const OUTPUT: u64 = 12;
    pub(super) const VALUE_INFO: u64 = 13;
    pub(super) const SPARSE_INITIALIZER: u64 = 15;
}
mod tensor {
    pub(super) const DIMS: u64 = 1;
    pub(super) const DATA_TYPE: u64 = 2;
    pub(super) const FLOAT_DATA: u64 = 4;
    pub(super) const NAME: u64 = 8;
    pub(super) const RAW_DATA: u64 = 9;
    pub(super) const EXTERNAL_DATA: u64 = 13;
    pub(super) const DATA_LOCATION: u64 = 14;
}
/// `TensorProto.DataType.FLOAT`.
pub(crate) const FLOAT: u64 = 1;

/// One extent of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Known.
    Fixed(i64),
    /// Free, with the name it has in the model (may be empty).
    Free(String),
}

impl Dim {
    /// The extent, when it is known.
    #[must_use]
    pub fn fixed(&self) -> Option<i64> {
        match self {
            Self::Fixed(n) => Some(*n),
            Self::Free(_) => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Free(name) if name.is_empty() => f.write_str("?"),
            Self::Free(name) => f.write_str(name),
        }
    }
}

/// An input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name.
    pub name: String,
    /// `TensorProto.DataType`; 0 when it is no tensor.
    pub element: u64,
    /// Declared shape; empty when none is declared.
    pub dims: Vec<Dim>,
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = match self.element {
            FLOAT => "",
            2 => "uint8 ",
            6 => "int32 ",
            7 => "int64 ",
            10 => "float16 ",
            16 => "bfloat16 ",
            _ => "other ",
        };
        let dims: Vec<String> = self.dims.iter().map(ToString::to_string).collect();
        write!(f, "{} {element}[{}]", self.name, dims.join(","))
    }
}

/// What a model says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Inputs that a caller fills (weights listed as inputs are left out).
    pub inputs: Vec<TensorInfo>,
    /// Outputs.
    pub outputs: Vec<TensorInfo>,
    /// Free-form properties, e.g. Ultralytics' `task`, `names`, `kpt_shape`.
    pub metadata: BTreeMap<String, String>,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |t: &[TensorInfo]| t.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "inputs {}; outputs {}", list(&self.inputs), list(&self.outputs))
    }
}

/// Why bytes are no model that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnnxError {
    /// Nothing in it.
    #[error("the file is empty (0 bytes)")]
    Empty,
    /// Over [`MAX_MODEL_BYTES`].
    #[error("the file has {0} bytes; at most {MAX_MODEL_BYTES} are accepted")]
    TooLarge(u64),
    /// Not the format.
    #[error("{0}")]
    Malformed(String),
    /// A protocol buffer, but no ONNX model.
    #[error("it has no {0}, so it is no ONNX model")]
    Missing(&'static str),
    /// Weights in other files.
    #[error(
        "its weights are in another file (external data of tensor {0:?}); save it as one file, e.g. with \
         onnx.save(onnx.load(path), path)"
    )]
    ExternalData(String),
}

impl From<Malformed> for OnnxError {
    fn from(m: Malformed) -> Self {
        Self::Malformed(m.to_string())
    }
}

/// Which declared extents to free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freeing {
    /// The first extent of every input and output.
    pub batch: bool,
    /// Height and width of the input, and with them every further extent of the outputs.
    pub spatial: bool,
}

/// Reads what a model takes and gives.
///
/// # Errors
/// When the bytes are empty, too many, no ONNX model, or a model whose weights lie in other files.
pub fn describe(bytes: &[u8]) -> Result<Description, OnnxError> {
    if bytes.is_empty() {
        return Err(OnnxError::Empty);
    }
    let size = bytes.len() as u64;
    if size > MAX_MODEL_BYTES {
        return Err(OnnxError::TooLarge(size));
    }
    let mut out = Description::default();
    let (mut graphs, mut versioned, mut opset) = (0, false, false);
    for field in Fields::new(bytes) {
        let field = field?;
        match field.number {
            model::IR_VERSION => versioned = field.varint()? > 0,
            model::OPSET_IMPORT => opset = true,
            model::GRAPH => {
                graphs += 1;
                describe_graph(field.bytes()?, &mut out)?;
            }
            model::METADATA => {
                let (mut key, mut value) = (String::new(), String::new());
                for part in Fields::new(field.bytes()?) {
                    let part = part?;
                    match part.number {
                        1 => key = part.text()?,
                        2 => value = part.text()?,
                        _ => {}
                    }
                }
                out.metadata.insert(key, value);
            }
            _ => {}
        }
    }
    // Protocol Buffers would merge several graphs; no exporter writes that, and a merged one could not be mended here.
    match (versioned, graphs, opset) {
        (false, ..) => Err(OnnxError::Missing("IR version")),
        (_, 0, _) => Err(OnnxError::Missing("graph")),
        (_, 2.., _) => Err(OnnxError::Malformed("it has more than one graph".to_owned())),
        (_, _, false) => Err(OnnxError::Missing("operator set")),
        _ => Ok(out),
    }
}

fn describe_graph(bytes: &[u8], out: &mut Description) -> Result<(), OnnxError> {
    let weights = initializers(bytes)?;
    let mut nodes = false;
    for field in Fields::new(bytes) {
        let field = field?;
        match field.number {
            graph::NODE => nodes = true,
            graph::INPUT => {
                let info = value_info(field.bytes()?)?;
                if !weights.contains(&info.name) {
                    out.inputs.push(info);
                }
            }
            graph::OUTPUT => out.outputs.push(value_info(field.bytes()?)?),
            _ => {}
        }
    }
    if nodes { Ok(()) } else { Err(OnnxError::Missing("node in its graph")) }
}

/// Names of all weights; refuses external ones.
fn initializers(graph: &[u8]) -> Result<BTreeSet<String>, OnnxError> {
    let mut names = BTreeSet::new();
    for field in Fields::new(graph) {
        let field = field?;
        let tensor = match field.number {
            graph::INITIALIZER => field.bytes()?,
            // SparseTensorProto.values carries the name.
            graph::SPARSE_INITIALIZER => {
                let inner = Fields::new(field.bytes()?).find(|f| f.as_ref().is_ok_and(|f| f.number == 1));
                inner.ok_or(Malformed)??.bytes()?
            }
            _ => continue,
        };
        let (mut name, mut external) = (String::new(), false);
        for part in Fields::new(tensor) {
            let part = part?;
            match part.number {
                tensor::NAME => name = part.text()?,
                tensor::EXTERNAL_DATA => external = true,
                tensor::DATA_LOCATION => external |= part.varint()? == 1,
                _ => {}
            }
        }
        if external {
            return Err(OnnxError::ExternalData(name));
        }
        names.insert(name);
    }
    Ok(names)
}

fn value_info(bytes: &[u8]) -> Result<TensorInfo, Malformed> {
    let mut info = TensorInfo { name: String::new(), element: 0, dims: Vec::new() };
    for field in Fields::new(bytes) {
        let field = field?;
        match field.number {
            1 => info.name = field.text()?,
            2 => {
                for kind in Fields::new(field.bytes()?) {
                    let kind = kind?;
                    if kind.number == 1 {
                        tensor_type(kind.bytes()?, &mut info)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(info)
}

fn tensor_type(bytes: &[u8], info: &mut TensorInfo) -> Result<(), Malformed> {
    for field in Fields::new(bytes) {
        let field = field?;
        match field.number {
            1 => info.element = field.varint()?,
            2 => {
                for dim in Fields::new(field.bytes()?) {
                    let dim = dim?;
                    if dim.number == 1 {
                        info.dims.push(dimension(dim.bytes()?)?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn dimension(bytes: &[u8]) -> Result<Dim, Malformed> {
    let mut dim = Dim::Free(String::new());
    for field in Fields::new(bytes) {
        let field = field?;
        match field.number {
            // int64 on the wire; some exporters write -1 or 0 for "free".
            1 => {
                let n = field.varint()?.cast_signed();
                dim = if n > 0 { Dim::Fixed(n) } else { Dim::Free(String::new()) };
            }
            2 => dim = Dim::Free(field.text()?),
            _ => {}
        }
    }
    Ok(dim)
}

/// Rewrites a model so that ONNX Runtime fuses it and runs it at other sizes:
/// - weights leave the graph's inputs (as inputs they could be overridden, which forbids constant folding; measured on
///   CenterFace: 2.2 times as fast without);
/// - the declared extents that `free` names become free, and shapes recorded for inner values, stale then, go.
///
/// Everything else stays byte for byte.
///
/// # Errors
/// As [`describe`].
pub fn mend(bytes: &[u8], free: Freeing) -> Result<Vec<u8>, OnnxError> {
    describe(bytes)?;
    let mut out = Vec::with_capacity(bytes.len() + 64);
    for field in Fields::new(bytes) {
        let field = field?;
        if field.number == model::GRAPH {
            put_bytes(&mut out, model::GRAPH, &mend_graph(field.bytes()?, free)?);
        } else {
            out.extend_from_slice(field.raw);
        }
    }
    Ok(out)
}

fn mend_graph(bytes: &[u8], free: Freeing) -> Result<Vec<u8>, OnnxError> {
    let weights = initializers(bytes)?;
    let mut out = Vec::with_capacity(bytes.len() + 64);
    for field in Fields::new(bytes) {
        let field = field?;
        match field.number {
            graph::INPUT => {
                let value = field.bytes()?;
                if !weights.contains(&value_info(value)?.name) {
                    // Channels stay: [batch, 3, height, width].
                    let freed = |axis: usize| if axis == 0 { free.batch } else { free.spatial && axis >= 2 };
                    put_bytes(&mut out, graph::INPUT, &free_value_info(value, &freed)?);
                }
            }
            graph::OUTPUT => {
                let freed = |axis: usize| if axis == 0 { free.batch } else { free.spatial };
                put_bytes(&mut out, graph::OUTPUT, &free_value_info(field.bytes()?, &freed)?);
            }
            graph::VALUE_INFO if free != Freeing::default() => {}
            _ => out.extend_from_slice(field.raw),
        }
    }
    Ok(out)
}

/// A message's bytes to other bytes.
type Rewriter<'a> = dyn FnMut(&[u8]) -> Result<Vec<u8>, Malformed> + 'a;

/// Rewrites the field `number` of a message by `with`, copies the others.
fn rewrite(bytes: &[u8], number: u64, with: &mut Rewriter<'_>) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(bytes.len());
    for field in Fields::new(bytes) {
        let field = field?;
        if field.number == number {
            put_bytes(&mut out, number, &with(field.bytes()?)?);
        } else {
            out.extend_from_slice(field.raw);
        }
    }
    Ok(out)
}

/// ValueInfoProto.type(2).tensor_type(1).shape(2).dim(1), the freed ones without value and name ("unknown").
fn free_value_info(bytes: &[u8], freed: &dyn Fn(usize) -> bool) -> Result<Vec<u8>, Malformed> {
    rewrite(bytes, 2, &mut |kind| {
        rewrite(kind, 1, &mut |tensor| {
            rewrite(tensor, 2, &mut |shape| {
                let mut axis = 0;
                rewrite(shape, 1, &mut |dim| {
                    axis += 1;
                    if freed(axis - 1) { without_extent(dim) } else { Ok(dim.to_vec()) }
                })
            })
        })
    })
}

/// A dimension without dim_value (1) and dim_param (2); its denotation stays.
fn without_extent(dim: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::new();
    for field in Fields::new(dim) {
        let field = field?;
        if field.number > 2 {
            out.extend_from_slice(field.raw);
        }
    }
    Ok(out)
}

/// A one-node model for tests of this crate: `inputs` and `outputs` as declared, `weights` listed as inputs too.
#[cfg(test)]
pub(crate) fn toy_model(inputs: &[TensorInfo], outputs: &[TensorInfo], weights: &[&str]) -> Vec<u8> {
    let info = |t: &TensorInfo| {
        let mut shape = Vec::new();
        for dim in &t.dims {
            let mut d = Vec::new();
            match dim {
                Dim::Fixed(n) => {
                    put_varint(&mut d, 1 << 3);
                    put_varint(&mut d, n.cast_unsigned());
                }
                Dim::Free(name) => put_bytes(&mut d, 2, name.as_bytes()),
            }
            put_bytes(&mut shape, 1, &d);
        }
        let mut tensor = Vec::new();
        put_varint(&mut tensor, 1 << 3);
        put_varint(&mut tensor, t.element);
        put_bytes(&mut tensor, 2, &shape);
        let mut kind = Vec::new();
        put_bytes(&mut kind, 1, &tensor);
        let mut v = Vec::new();
        put_bytes(&mut v, 1, t.name.as_bytes());
        put_bytes(&mut v, 2, &kind);
        v
    };
    let mut g = Vec::new();
    put_bytes(&mut g, graph::NODE, &[]);
    for t in inputs {
        put_bytes(&mut g, graph::INPUT, &info(t));
    }
    for name in weights {
        let weight = TensorInfo { name: (*name).to_owned(), element: FLOAT, dims: vec![Dim::Fixed(1)] };
        put_bytes(&mut g, graph::INPUT, &info(&weight));
        put_bytes(&mut g, graph::VALUE_INFO, &info(&weight));
        let mut w = Vec::new();
        put_bytes(&mut w, tensor::NAME, name.as_bytes());
        put_bytes(&mut g, graph::INITIALIZER, &w);
    }
    for t in outputs {
        put_bytes(&mut g, graph::OUTPUT, &info(t));
    }
    let mut m = Vec::new();
    put_varint(&mut m, model::IR_VERSION << 3);
    put_varint(&mut m, 4);
    put_bytes(&mut m, model::GRAPH, &g);
    put_bytes(&mut m, model::OPSET_IMPORT, &[0x10, 11]);
    // A field that no schema knows.
    put_bytes(&mut m, 999, b"unknown");
    m
}

#[cfg(test)]
mod tests;
