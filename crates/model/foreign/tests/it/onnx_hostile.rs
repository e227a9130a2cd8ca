//! ONNX files that are damaged, ask for what is not supported, or do not fit what is declared.

use std::path::Path;

use candle_core::Device;
use foreign::onnx::import;
use inference::{SlidingWindow, TrainedGraph};
use serde_json::{Value, json};

use crate::onnx::declared;
use crate::{fixture, tensors};

/// A message or text as a field.
fn part(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut length = bytes.len();
    let mut field = vec![tag << 3 | 2];
    while length > 0x7f {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    [field, bytes.to_vec()].concat()
}

/// A number as a field.
fn number(tag: u8, number: i64) -> Vec<u8> {
    let mut field = if tag < 16 { vec![tag << 3] } else { vec![tag << 3 | 0x80, 1] };
    let mut rest = number as u64;
    while rest > 0x7f {
        field.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    field.push(rest as u8);
    field
}

fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    part(5, &[part(1, name.as_bytes()), values.iter().flat_map(|value| number(8, *value)).collect(), number(20, 7)].concat())
}

fn int(name: &str, value: i64) -> Vec<u8> {
    part(5, &[part(1, name.as_bytes()), number(3, value), number(20, 2)].concat())
}

fn text(name: &str, value: &str) -> Vec<u8> {
    part(5, &[part(1, name.as_bytes()), part(4, value.as_bytes()), number(20, 3)].concat())
}

/// A node of the graph; names are apart by blanks.
fn node(op: &str, inputs: &str, output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.split(' ').flat_map(|name| part(1, name.as_bytes())).collect();
    part(
        1,
        &[inputs, part(2, output.as_bytes()), part(3, format!("{op}_{output}").as_bytes()), part(4, op.as_bytes()), attributes.concat()]
            .concat(),
    )
}

/// A weight of whole numbers.
fn whole(name: &str, values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    part(5, &[number(1, values.len() as i64), number(2, 7), part(8, name.as_bytes()), part(9, &raw)].concat())
}

/// A file with the input `x` and the output `y`, each of these sides or open.
fn file(input: &[i64], parts: &[Vec<u8>]) -> Vec<u8> {
    let shape: Vec<u8> = input.iter().flat_map(|side| part(1, &number(1, *side))).collect();
    let tensor = part(1, &[number(1, 1), part(2, &shape)].concat());
    let ends = [part(11, &[part(1, b"x"), part(2, &tensor)].concat()), part(12, &part(1, b"y"))].concat();
    [part(8, &number(2, 17)), part(7, &[parts.concat(), ends].concat())].concat()
}

const IMAGE: [i64; 5] = [1, 1, 4, 4, 4];

/// Why a file is refused.
fn refused(bytes: &[u8], more: Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theirs.onnx");
    std::fs::write(&path, bytes).unwrap();
    let error = import(&path, &declared(more)).err().expect("it is taken").to_string();
    assert!(error.contains("theirs.onnx"), "{error}");
    error
}

#[test]
fn all_that_is_not_supported_is_named_at_once() {
    let parts = [
        node("Attention", "x", "a", &[]),
        node("Conv", "a w", "b", &[ints("dilations", &[2, 2, 2])]),
        node("Resize", "b", "c", &[text("mode", "cubic")]),
        node("Relu", "c", "d", &[int("turbo", 1)]),
        node("NonZero", "d", "y", &[]),
    ];
    let error = refused(&file(&IMAGE, &parts), json!({}));
    for part in [
        "`Attention_a` is a Attention",
        "`Conv_b` (Conv) has dilations [2, 2, 2], expected 1",
        "`Resize_c` (Resize) has mode cubic, expected nearest or linear",
        "`Relu_d` (Relu) has turbo 1, expected none",
        "`NonZero_y` is a NonZero",
        "supported are Abs, Add, AveragePool",
        "Export the network for inference",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn what_does_not_fit_its_shapes_is_named_with_its_node() {
    let huge = 1_i64 << 40;
    for (parts, expected) in [
        (vec![node("Relu", "z", "y", &[])], "its input `z` is given by no node before it"),
        (vec![whole("s", &[huge]), node("ConstantOfShape", "s", "y", &[])], "constants of more than"),
        (vec![whole("s", &[-1]), node("ConstantOfShape", "s", "y", &[])], "the shape [-1]"),
        (vec![whole("s", &[1, 1, huge, huge, huge]), node("Expand", "x s", "y", &[])], "do not go together"),
        (vec![whole("s", &[0, 0, -1, -1]), node("Reshape", "x s", "y", &[])], "shape [1, 1, 4, 4, 4] as [0, 0, -1, -1]"),
        (vec![whole("s", &[0, -1, 0, 0, 0, 0]), node("Reshape", "x s", "y", &[])], "as [0, -1, 0, 0, 0, 0]"),
        (vec![whole("s", &[i64::MAX, i64::MAX, -1]), node("Reshape", "x s", "y", &[])], "as ["),
        (vec![whole("p", &[0, 0, i64::MAX, 0, 0, 0, 0, i64::MAX, 0, 0]), node("Pad", "x p", "y", &[])], "too long an axis"),
        (vec![whole("p", &[0, 0, i64::MIN, 0, 0, 0, 0, 0, 0, 0]), node("Pad", "x p", "y", &[])], "`y` has the shape [1, 1, 0, 4, 4]"),
        (vec![whole("p", &[0, 0, 9, 0, 0, 0, 0, 0, 0, 0]), node("Pad", "x p", "y", &[text("mode", "reflect")])], "9 and 0 places around 4"),
        (vec![whole("p", &[1, 2, 3]), node("Pad", "x p", "y", &[])], "pads [1, 2, 3] of 5 axes"),
        (vec![whole("s", &[1, 1, huge, 1, 1]), node("Resize", "x   s", "y", &[])], "from [1, 1, 4, 4, 4]"),
        (vec![whole("a", &[0]), whole("b", &[huge]), whole("c", &[1]), node("Range", "a b c", "y", &[])], "from 0 to 1099511627776"),
        (vec![whole("a", &[i64::MIN]), whole("b", &[-1]), node("Div", "a b", "y", &[])], "beyond all bounds"),
        (vec![whole("a", &[1]), whole("b", &[0]), node("Div", "a b", "y", &[])], "beyond all bounds"),
        (vec![whole("a", &[9]), node("Gather", "x a", "y", &[])], "axis 9 of 1"),
        (vec![whole("a", &[1]), node("Add", "x a", "y", &[])], "whole numbers where values are expected"),
        (vec![node("Transpose", "x", "y", &[ints("perm", &[0, 0, 1, 2, 3])])], "order [0, 0, 1, 2, 3]"),
        (vec![node("MaxPool", "x", "y", &[ints("kernel_shape", &[i64::MAX, 1, 1])])], "do not fit into"),
        (vec![node("MaxPool", "x", "y", &[ints("kernel_shape", &[2, 2, 2]), ints("strides", &[0, 1, 1])])], "in steps of [0, 1, 1]"),
        (vec![node("Softmax", "x", "y", &[int("axis", i64::MIN)])], "axis -9223372036854775808 of 5"),
        (vec![node("Cast", "x", "y", &[int("to", 7)])], "becomes whole numbers"),
        (
            vec![node("Concat", "x x", "y", &[int("axis", 1)])],
            "`y` has the shape [1, 2, 4, 4, 4]; expected [1, 3, 4, 4, 4], with the channels background, liver, spleen",
        ),
    ] {
        let error = refused(&file(&IMAGE, &parts), json!({}));
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn declarations_that_the_graph_contradicts_are_refused() {
    let relu = [node("Relu", "x", "y", &[])];
    for (input, more, expected) in [
        (&[1, 1, 4, 4, 4][..], json!({"patch": [4, 4, 8]}), "has 4 voxels along z, and `patch` 8"),
        (&[1, 1, 4, 4, 4], json!({"axes": "yx"}), "has 5 axes; expected batch, channel and `axes` yx"),
        (&[1, 3, 4, 4, 4], json!({}), "of 1 images with 3 channels; expected one image with one channel"),
        (&[8, 1, 4, 4, 4], json!({}), "of 8 images with 1 channels"),
        (&[1, 1, 4, 4], json!({"axes": "xy", "patch": [4, 4, 2]}), "has 2 voxels along z; expected 1"),
        (&[-1, 1, -1, -1, -1], json!({}), "leaves its sides open; give `patch`"),
        (&[1, 1, 4, 4, 4], json!({"axes": "xxz"}), "axes: xxz: expected two or three of x, y and z"),
        (&[1, 1, 4, 4, 4], json!({"orientation": "SAR"}), "`axes` says in which order they stand"),
        (&[1, 1, 4, 4, 4], json!({"output": "z"}), "it has no output `z`; its outputs are y"),
        (&[1, 1, 4, 4, 4], json!({"channels": ["liver", "spleen"]}), "channels: background stands 0 times"),
        (&[1, 1, 4, 4, 4], json!({"channels": ["background", "liver", "liver"]}), "channels: liver stands 2 times"),
        (&[1, 1, 4, 4, 4], json!({"channels": ["background", "lung"]}), "channels: there is no class `lung`"),
        (&[1, 1, 4, 4, 4], json!({"intensity": {"range": [1, 1]}}), "intensity.range [1, 1]"),
        (&[1, 1, 4, 4, 4], json!({"intensity": {"normal": {"mean": 0, "std": 0}}}), "a deviation above 0"),
    ] {
        let error = refused(&file(input, &relu), more);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn weights_beside_the_graph_are_read_within_bounds() {
    let entry = |key: &str, value: &str| part(13, &[part(1, key.as_bytes()), part(2, value.as_bytes())].concat());
    let weight = |location: &str, offset: &str| {
        part(5, &[number(1, 2), number(2, 1), part(8, b"w"), number(14, 1), entry("location", location), entry("offset", offset)].concat())
    };
    for (location, offset, expected) in [
        ("../secret", "0", "`../secret`; expected a file beside the graph"),
        ("/etc/passwd", "0", "`/etc/passwd`; expected a file beside the graph"),
        ("", "0", "expected a file beside the graph"),
        ("nowhere.data", "0", "nowhere.data, which cannot be read"),
        ("theirs.onnx", "18446744073709551615", "8 bytes from 18446744073709551615 on in theirs.onnx"),
        ("theirs.onnx", "-3", "the offset `-3`"),
    ] {
        let error = refused(&file(&IMAGE, &[weight(location, offset), node("Add", "x w", "y", &[])]), json!({}));
        assert!(error.contains(expected) && error.contains("the weight `w`"), "{expected}: {error}");
    }
}

#[test]
fn damaged_files_end_in_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theirs.onnx");
    let take = |bytes: &[u8], patch: &[usize]| {
        std::fs::write(&path, bytes).unwrap();
        import(&path, &declared(json!({"patch": patch})))
    };
    let whole = std::fs::read(fixture("onnx/parts.traced_11.onnx")).unwrap();
    let expected = tensors("onnx/parts.safetensors");
    let patch = &expected["image"].dims()[2..];
    assert!(take(&whole, patch).is_ok());
    for length in (0..whole.len()).step_by(487) {
        let error = take(&whole[..length], patch).err().unwrap().to_string();
        assert!(error.contains("theirs.onnx"), "{length}: {error}");
    }
    for at in (0..whole.len()).step_by(23) {
        for flip in [0x55, 0x80, 0x01] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            // It may go unnoticed in a weight, and must not panic anywhere.
            drop(take(&damaged, patch));
        }
    }
    for bytes in [&b""[..], b"\x00", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"] {
        assert!(refused(bytes, json!({})).contains("expected a whole .onnx file"));
    }
    // A million nodes of two bytes each.
    let many = part(7, &[0x0a, 0x00].repeat((1 << 20) + 1));
    assert!(refused(&many, json!({})).contains("more than a million"));
}

/// What opens a model file after its graph was changed.
fn opened(change: impl Fn(&mut Value), patch: [usize; 3]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let said = json!({"axes": "xy", "overlapping": true, "patch": [32, 48, 1]});
    let mut model = import(Path::new(&fixture("onnx/flat.captured.onnx")), &declared(said)).unwrap().model;
    let program = model.more.get_mut("graph").unwrap();
    let mut changed: Value = serde_json::from_str(program).unwrap();
    change(&mut changed);
    *program = changed.to_string();
    model.save(&path).unwrap();
    let window = SlidingWindow { patch, overlap: 0.5 };
    TrainedGraph::load(&model.card, &window, &path, &Device::Cpu).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn model_files_whose_graph_was_changed_are_refused() {
    let flat = [32, 48, 1];
    assert_eq!(opened(|_| {}, flat), "");
    assert!(opened(|_| {}, [32, 48, 2]).contains("the graph was imported for [32, 48, 1]. Import it anew"));
    let first = |graph: &Value| graph["weights"].as_object().unwrap().keys().next().unwrap().clone();
    let huge = opened(
        |graph| {
            let name = first(graph);
            graph["steps"].as_array_mut().unwrap().truncate(0);
            graph["outputs"] = json!([0]);
            graph["weights"][name] = json!([1_u64 << 32]);
        },
        flat,
    );
    assert!(huge.contains("with outputs of [[1, 1, 32, 48, 1]]"), "{huge}");
    let unused = opened(|graph| graph["weights"]["graph/more"] = json!([1_u64 << 32]), flat);
    assert!(unused.contains("bytes for weights of"), "{unused}");
    assert!(opened(|graph| graph["weights"]["graph/more"] = json!([1_u64 << 62, 8]), flat).contains("expected at most"));
    assert!(opened(|graph| graph["steps"][3]["of"][0] = json!(9999), flat).contains("value 9999 is not there yet"));
    assert!(opened(|graph| graph["steps"][3]["of"] = json!([]), flat).contains("0 operands"));
    assert!(opened(|graph| graph["outputs"] = json!([7777]), flat).contains("the output 7777 is no value of it"));
    assert!(opened(|graph| graph["steps"] = json!([{"op": "dream", "of": [0]}]), flat).contains("cannot be read"));
    assert!(opened(|graph| graph["image"] = json!([]), flat).contains("cannot be computed"));
}
