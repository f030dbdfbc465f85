//! YuNet's graph with less work, to the same numbers.
//!
//! Owns two changes of the published graph, each made only where the graph is found to be as described:
//! - **heads joined**: class, objectness, box and points of a stride come from four pairs of convolutions over the same
//!   features, with 1, 1, 4 and 10 channels. ONNX Runtime's blocked kernels take multiples of 8, so it leaves its blocked
//!   layout for them and runs twenty-four small convolutions, twelve transposes and reshapes. Joined they are one
//!   pair of 16 channels a stride (measured at 640x384 on one core: 7.3 to 6.6 ms);
//! - **stem cut off**: the layers up to the first fork are computed by [`Stem`].

use crate::onnx::nodes::{Change, Conv, Graph, Node, Weight};
use crate::stem::Stem;

use super::{KINDS, STRIDES};

/// Channels of joined heads.
pub(super) const JOINED: usize = 16;

/// A model changed, and what computes its first layers when they were cut off.
pub(super) struct Reworked {
    pub(super) bytes: Vec<u8>,
    pub(super) stem: Option<Stem>,
}

/// `input` is the graph's input; with `stem` the first layers are cut off where they can be.
pub(super) fn rework(bytes: &[u8], input: &str, stem: bool) -> Option<Reworked> {
    let graph = Graph::read(bytes).ok()?;
    let mut change = Change::default();
    let mut outputs = Vec::new();
    for stride in STRIDES {
        let output = format!("faces_{stride}");
        join_heads(&graph, stride, &output, &mut change)?;
        outputs.push((output, JOINED as i64));
    }
    change.set_outputs(&outputs);
    let stem = stem.then(|| cut_stem(&graph, input, &mut change)).flatten();
    Some(Reworked { bytes: change.apply(bytes).ok()?, stem })
}

/// The four heads of a stride as one, or `None` when they are not what they should be.
fn join_heads(graph: &Graph<'_>, stride: u32, output: &str, change: &mut Change) -> Option<()> {
    let mut heads = Vec::new();
    for (kind, channels) in KINDS {
        let mut value = format!("{kind}_{stride}");
        // Scores end in a sigmoid, which is left to the decoding.
        let squashed = matches!(kind, "cls" | "obj");
        let tail: &[&str] = if squashed { &["Sigmoid", "Reshape", "Transpose"] } else { &["Reshape", "Transpose"] };
        for op in tail {
            let node =
                graph.maker(&value).filter(|n| n.op == *op && n.is("perm", &[0, 2, 3, 1], *op != "Transpose"))?;
            change.gone.insert(value);
            value = node.inputs.first()?.clone();
            graph.only_reader(&value)?;
        }
        let channels = usize::try_from(channels).ok()?;
        let mut conv = || {
            let conv = graph.conv(graph.maker(&value)?)?;
            change.gone.insert(std::mem::replace(&mut value, conv.input.clone()));
            (conv.stride == 1 && conv.weight.dims.first() == Some(&channels)).then_some(conv)
        };
        let spatial = conv().filter(|c| c.weight.dims[1..] == [1, 3, 3] && c.group == channels)?;
        graph.only_reader(&spatial.input)?;
        let point = conv().filter(|c| c.weight.dims[2..] == [1, 1] && c.group == 1)?;
        heads.push((point, spatial));
    }
    let (first, _) = heads.first()?;
    let same = |conv: &Conv| conv.input == first.input && conv.weight.dims[1] == first.weight.dims[1];
    if !heads.iter().all(|(point, _)| same(point)) {
        return None;
    }
    let between = format!("{output}_point");
    let point = joined(heads.iter().map(|(point, _)| point), first.input.clone(), 1)?;
    change.add_conv(&point, &between);
    change.add_conv(&joined(heads.iter().map(|(_, spatial)| spatial), between, JOINED)?, output);
    Some(())
}

/// Convolutions side by side: their outputs one after another.
fn joined<'a>(convs: impl Iterator<Item = &'a Conv> + Clone, input: String, group: usize) -> Option<Conv> {
    let first = convs.clone().next()?;
    let mut dims = first.weight.dims.clone();
    *dims.first_mut()? = JOINED;
    let data = convs.clone().flat_map(|c| c.weight.data.iter().copied()).collect();
    let bias: Vec<f32> = convs.flat_map(|c| c.bias.iter().copied()).collect();
    (bias.len() == JOINED).then_some(Conv { input, weight: Weight { dims, data }, bias, stride: 1, group })
}

/// Takes the layers up to the first fork out of the graph: its input is then what the stem gives.
fn cut_stem(graph: &Graph<'_>, input: &str, change: &mut Change) -> Option<Stem> {
    let first = graph.only_reader(input)?;
    let relu = next(graph, first, "Relu")?;
    let mut stem = Stem::new(&graph.conv(first)?)?;
    let mut taken = vec![first, relu];
    while let Some(nodes) = take_unit(graph, taken[taken.len() - 1], &mut stem) {
        taken.extend(nodes);
        let pool = next(graph, taken[taken.len() - 1], "MaxPool").filter(|pool| halves(pool));
        taken.extend(pool.filter(|_| stem.pool().is_some()));
    }
    // Without a unit nothing would be gained.
    let last = taken.last().filter(|_| taken.len() > 2)?;
    change.set_input(last.outputs.first()?, i64::try_from(stem.channels()).ok()?);
    change.gone.extend(taken.iter().flat_map(|n| n.outputs.iter().cloned()));
    Some(stem)
}

/// The node that alone reads what this one gives, when it is such an operation.
fn next<'a>(graph: &'a Graph<'_>, node: &Node, op: &str) -> Option<&'a Node> {
    graph.only_reader(node.outputs.first()?).filter(|n| n.op == op)
}

/// The nodes of a unit behind this one, when there is one that the stem takes.
fn take_unit<'a>(graph: &'a Graph<'_>, before: &Node, stem: &mut Stem) -> Option<[&'a Node; 3]> {
    let point = next(graph, before, "Conv")?;
    let spatial = next(graph, point, "Conv")?;
    let relu = next(graph, spatial, "Relu")?;
    stem.push(&graph.conv(point)?, &graph.conv(spatial)?)?;
    Some([point, spatial, relu])
}

/// Whether it takes the largest of each two by two.
fn halves(pool: &Node) -> bool {
    pool.is("kernel_shape", &[2, 2], false)
        && pool.is("strides", &[2, 2], false)
        && pool.is("pads", &[0; 4], true)
        && pool.is("ceil_mode", &[0], true)
        && pool.is("dilations", &[1, 1], true)
        && pool.is("auto_pad", &[], true)
}
