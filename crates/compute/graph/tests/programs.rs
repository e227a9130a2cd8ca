//! Programs that anybody may have written.

use candle_core::{DType, Device, Tensor};
use graph::Program;
use serde_json::{Value, json};

/// A program over an image `(1, 1, 4, 6)` with the weights `w (2, 1, 3, 3)` and `c (2)`.
fn program(steps: &Value, outputs: &Value) -> Program {
    let program = json!({"image": [1, 1, 4, 6], "weights": {"w": [2, 1, 3, 3], "c": [2]}, "steps": steps, "outputs": outputs});
    serde_json::from_value(program).unwrap()
}

fn conv(stride: [usize; 2], padding: [usize; 2]) -> Value {
    json!({"op": {"conv": {"walk": {"stride": stride, "padding": padding}, "groups": 1}}, "of": [0, "w", "c"]})
}

#[test]
fn what_is_checked_has_the_shapes_that_are_computed() {
    let steps = json!([
        conv([2, 2], [1, 1]),
        {"op": {"norm": {"groups": null, "eps": 1e-5, "slope": 0.1}}, "of": [1, "c", "c"]},
        {"op": {"linear": {"size": [4, 6]}}, "of": [2]},
        {"op": {"max_pool": {"kernel": [3, 2], "walk": {"stride": [1, 2], "padding": [1, 0]}}}, "of": [3]},
        {"op": {"average_pool": {"kernel": [2, 2], "walk": {"stride": [1, 1], "padding": [1, 1]}, "outside": false}}, "of": [4]},
        {"op": {"pad": {"before": [0, 0, 1, 0], "after": [0, 0, 0, 2], "with": -1.0}}, "of": [5]},
        {"op": {"take": {"axis": 3, "places": [5, 0, 0]}}, "of": [6]},
        {"op": {"blend": {"axis": 2, "low": [0, 1], "high": [1, 1], "part": [0.5, 0.0]}}, "of": [7]},
        {"op": {"each": "sigmoid"}, "of": [8]},
        {"op": {"permute": {"order": [0, 3, 1, 2]}}, "of": [9]},
        {"op": {"join": {"axis": 1}}, "of": [10, 10]},
    ]);
    let program = program(&steps, &json!([1, 11]));
    let weight = |name: &str| {
        let shape = &program.weights[name];
        Tensor::arange(0f32, shape.iter().product::<usize>() as f32, &Device::Cpu)?.reshape(&shape[..])
    };
    let image = Tensor::ones((1, 1, 4, 6), DType::F32, &Device::Cpu).unwrap();
    let found = program.run(weight, &image).unwrap();
    let shapes: Vec<Vec<usize>> = found.iter().map(|value| value.dims().to_vec()).collect();
    assert_eq!(shapes, program.check().unwrap());
    assert_eq!(shapes, [vec![1, 2, 2, 3], vec![1, 6, 2, 2]]);
    let other = Tensor::ones((1, 1, 6, 4), DType::F32, &Device::Cpu).unwrap();
    assert!(program.run(weight, &other).unwrap_err().to_string().contains("of patches [1, 1, 4, 6], found [1, 1, 6, 4]"));
}

#[test]
fn what_cannot_be_computed_is_found_before_it_is() {
    let huge = 1_usize << 40;
    for (step, expected) in [
        (conv([0, 1], [1, 1]), "in steps of [0, 1]"),
        (conv([1, 1], [usize::MAX, 0]), "do not fit into"),
        (conv([1, 1], [huge, huge]), "values of a map; expected at most"),
        (json!({"op": "add", "of": [0]}), "1 operands, expected 2 to 2"),
        (json!({"op": "add", "of": [1, 0]}), "value 1 is not there yet"),
        (json!({"op": "add", "of": ["v", 0]}), "there is no weight `v`"),
        (json!({"op": "product", "of": [0, "c"]}), "are no matrices"),
        (json!({"op": {"softmax": {"axis": 4}}, "of": [0]}), "axis 4 of shape"),
        (json!({"op": {"reshape": {"shape": [usize::MAX, 2]}}, "of": [0]}), "as ["),
        (json!({"op": {"permute": {"order": [0, 1, 3, 3]}}, "of": [0]}), "order [0, 1, 3, 3]"),
        (json!({"op": {"cut": {"axis": 2, "start": usize::MAX, "length": 2}}, "of": [0]}), "of axis 2"),
        (json!({"op": {"take": {"axis": 2, "places": [4]}}, "of": [0]}), "places beyond axis 2"),
        (json!({"op": {"expand": {"shape": [1, 1, 4, 6, 3]}}, "of": [0]}), "do not go together"),
        (json!({"op": {"linear": {"size": [0, 4]}}, "of": [0]}), "size [0, 4]"),
        (json!({"op": {"norm": {"groups": 0, "eps": 0.0, "slope": 1.0}}, "of": [0, "c", "c"]}), "groups of"),
        (json!({"op": {"mean": {"axes": [7]}}, "of": [0]}), "axes [7]"),
        (json!({"op": {"join": {"axis": 1}}, "of": []}), "0 operands"),
    ] {
        let error = program(&json!([step]), &json!([1])).check().unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(program(&json!([]), &json!([1])).check().unwrap_err().to_string().contains("the output 1 is no value"));
}
