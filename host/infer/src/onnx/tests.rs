//! Describing and mending, on models made here and on hostile bytes.

use super::*;
use proptest::prelude::*;

fn info(name: &str, dims: &[i64]) -> TensorInfo {
    TensorInfo { name: name.to_owned(), element: FLOAT, dims: dims.iter().map(|&n| Dim::Fixed(n)).collect() }
}

fn toy() -> Vec<u8> {
    toy_model(&[info("x", &[10, 3, 32, 32])], &[info("y", &[10, 1, 8, 8])], &["w1", "w2"])
}

#[test]
fn weights_are_no_inputs() {
    let d = describe(&toy()).unwrap();
    assert_eq!(d.inputs, [info("x", &[10, 3, 32, 32])]);
    assert_eq!(d.to_string(), "inputs x [10,3,32,32]; outputs y [10,1,8,8]");
}

#[test]
fn mending_frees_what_was_asked_and_nothing_else() {
    let free = Dim::Free(String::new());
    let mended = mend(&toy(), Freeing { batch: true, spatial: true }).unwrap();
    let d = describe(&mended).unwrap();
    assert_eq!(d.inputs[0].dims, [free.clone(), Dim::Fixed(3), free.clone(), free.clone()]);
    assert_eq!(d.outputs[0].dims, vec![free.clone(); 4]);

    let batch = describe(&mend(&toy(), Freeing { batch: true, spatial: false }).unwrap()).unwrap();
    assert_eq!(batch.inputs[0].dims[2], Dim::Fixed(32));
    assert_eq!(batch.outputs[0].dims, [free, Dim::Fixed(1), Dim::Fixed(8), Dim::Fixed(8)]);

    let graph_fields = |bytes: &[u8], number| {
        let graph = Fields::new(bytes).flatten().find(|f| f.number == model::GRAPH).unwrap();
        Fields::new(graph.bytes().unwrap()).flatten().filter(|f| f.number == number).count()
    };
    assert_eq!((graph_fields(&toy(), graph::INPUT), graph_fields(&mended, graph::INPUT)), (3, 1));
    assert_eq!((graph_fields(&toy(), graph::VALUE_INFO), graph_fields(&mended, graph::VALUE_INFO)), (2, 0));
    assert_eq!(graph_fields(&mended, graph::INITIALIZER), 2);
    assert!(mended.windows(7).any(|w| w == b"unknown"));
    // Without freeing, shapes of inner values are still true and stay.
    assert_eq!(graph_fields(&mend(&toy(), Freeing::default()).unwrap(), graph::VALUE_INFO), 2);
}

#[test]
fn mending_twice_changes_nothing_more() {
    let free = Freeing { batch: true, spatial: true };
    let once = mend(&toy(), free).unwrap();
    assert_eq!(mend(&once, free).unwrap(), once);
}

#[test]
fn what_is_no_model_is_refused_in_words() {
    let text = |bytes: &[u8]| describe(bytes).unwrap_err().to_string();
    assert_eq!(text(b""), "the file is empty (0 bytes)");
    assert!(text(b"<!DOCTYPE html><html>").contains("no protocol buffer"));
    assert!(text(&toy()[..toy().len() / 2]).contains("truncated"));
    // A protocol buffer of another kind.
    assert!(text(&[0x12, 2, b'h', b'i']).contains("no ONNX model"));
    let mut twice = toy();
    twice.extend(toy());
    assert!(text(&twice).contains("more than one graph"));
}

#[test]
fn external_weights_are_refused_by_name() {
    let mut weight = Vec::new();
    put_bytes(&mut weight, tensor::NAME, b"far_away");
    put_varint(&mut weight, tensor::DATA_LOCATION << 3);
    put_varint(&mut weight, 1);
    let mut g = Vec::new();
    put_bytes(&mut g, graph::NODE, &[]);
    put_bytes(&mut g, graph::INITIALIZER, &weight);
    let mut m = vec![0x08, 8];
    put_bytes(&mut m, model::GRAPH, &g);
    put_bytes(&mut m, model::OPSET_IMPORT, &[0x10, 11]);
    let error = describe(&m).unwrap_err();
    assert_eq!(error, OnnxError::ExternalData("far_away".to_owned()));
    assert!(error.to_string().contains("onnx.save"));
}

#[test]
fn real_models_are_understood() {
    let centerface = std::fs::read(facestream_test_support::asset_or_skip!("models/centerface.onnx")).unwrap();
    let d = describe(&centerface).unwrap();
    assert_eq!(
        d.to_string(),
        "inputs input.1 [10,3,32,32]; outputs 537 [10,1,8,8], 538 [10,2,8,8], 539 [10,2,8,8], 540 [10,10,8,8]"
    );
    let mended = mend(&centerface, Freeing { batch: true, spatial: true }).unwrap();
    assert_eq!(describe(&mended).unwrap().inputs[0].to_string(), "input.1 [?,3,?,?]");
    // 194 declarations of weights are gone, the weights are not.
    assert!(mended.len() < centerface.len() && mended.len() > centerface.len() - 20_000);
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mended = mend(&bytes, Freeing { batch: true, spatial: true });
        prop_assert_eq!(describe(&bytes).is_ok(), mended.is_ok());
    }

    /// Damage to a real structure reaches deeper than random bytes.
    #[test]
    fn damaged_models_never_panic(at in 0usize..1000, with in any::<u8>(), cut in 0usize..1000) {
        let mut bytes = toy();
        let n = bytes.len();
        bytes[at % n] = with;
        bytes.truncate(n - cut % 40);
        let mended = mend(&bytes, Freeing { batch: true, spatial: true });
        prop_assert_eq!(describe(&bytes).is_ok(), mended.is_ok());
    }
}
