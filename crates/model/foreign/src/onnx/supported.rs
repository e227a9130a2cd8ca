//! Which operations and attributes are taken.

use super::proto::{Attribute, Graph, Node};

/// What an attribute must be.
#[derive(Clone, Copy)]
enum Must {
    /// Anything that the operation can make sense of.
    Any,
    /// This number, or these numbers alone.
    Be(i64),
    /// One of these words.
    Say(&'static [&'static str]),
}

use Must::{Any, Be, Say};

const AUTO_PAD: Must = Say(&["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]);

/// The operations of ONNX's own domain with their attributes, as PyTorch's exporters write them for segmentation networks.
const OPERATIONS: &[(&str, &[(&str, Must)])] = &[
    ("Abs", &[]),
    ("Add", &[]),
    (
        "AveragePool",
        &[
            ("kernel_shape", Any),
            ("strides", Any),
            ("pads", Any),
            ("auto_pad", AUTO_PAD),
            ("count_include_pad", Any),
            ("ceil_mode", Be(0)),
            ("dilations", Be(1)),
        ],
    ),
    ("BatchNormalization", &[("epsilon", Any), ("momentum", Any), ("training_mode", Any), ("spatial", Be(1))]),
    ("Cast", &[("to", Any), ("saturate", Any)]),
    ("Ceil", &[]),
    ("Clip", &[("min", Any), ("max", Any)]),
    ("Concat", &[("axis", Any)]),
    ("Constant", &[("value", Any), ("value_float", Any), ("value_floats", Any), ("value_int", Any), ("value_ints", Any)]),
    ("ConstantOfShape", &[("value", Any)]),
    ("Conv", &[("kernel_shape", Any), ("strides", Any), ("pads", Any), ("auto_pad", AUTO_PAD), ("group", Any), ("dilations", Be(1))]),
    (
        "ConvTranspose",
        &[
            ("kernel_shape", Any),
            ("strides", Any),
            ("pads", Any),
            ("auto_pad", Say(&["NOTSET", "VALID"])),
            ("group", Any),
            ("dilations", Be(1)),
            ("output_padding", Any),
        ],
    ),
    ("Div", &[]),
    ("Dropout", &[("ratio", Any), ("seed", Any)]),
    ("Elu", &[("alpha", Any)]),
    ("Equal", &[]),
    ("Erf", &[]),
    ("Exp", &[]),
    ("Expand", &[]),
    ("Flatten", &[("axis", Any)]),
    ("Floor", &[]),
    ("Gather", &[("axis", Any)]),
    ("Gemm", &[("alpha", Any), ("beta", Any), ("transA", Any), ("transB", Any)]),
    ("GlobalAveragePool", &[]),
    ("GroupNormalization", &[("epsilon", Any), ("num_groups", Any), ("stash_type", Any)]),
    ("Identity", &[]),
    ("InstanceNormalization", &[("epsilon", Any)]),
    ("LeakyRelu", &[("alpha", Any)]),
    ("Log", &[]),
    ("LogSoftmax", &[("axis", Any)]),
    ("MatMul", &[]),
    (
        "MaxPool",
        &[
            ("kernel_shape", Any),
            ("strides", Any),
            ("pads", Any),
            ("auto_pad", AUTO_PAD),
            ("storage_order", Be(0)),
            ("ceil_mode", Be(0)),
            ("dilations", Be(1)),
        ],
    ),
    ("Mul", &[]),
    ("Neg", &[]),
    ("PRelu", &[]),
    ("Pad", &[("mode", Say(&["constant", "edge", "reflect"])), ("pads", Any), ("value", Any)]),
    ("Range", &[]),
    ("ReduceMean", &[("axes", Any), ("keepdims", Any), ("noop_with_empty_axes", Any)]),
    ("Relu", &[]),
    ("Reshape", &[("allowzero", Any)]),
    (
        "Resize",
        &[
            ("mode", Say(&["nearest", "linear"])),
            ("coordinate_transformation_mode", Say(&["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])),
            ("nearest_mode", Say(&["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])),
            ("antialias", Be(0)),
            ("axes", Any),
            ("cubic_coeff_a", Any),
            ("exclude_outside", Any),
            ("extrapolation_value", Any),
            ("keep_aspect_ratio_policy", Say(&["stretch"])),
        ],
    ),
    ("Shape", &[("start", Any), ("end", Any)]),
    ("Sigmoid", &[]),
    ("Slice", &[("starts", Any), ("ends", Any), ("axes", Any)]),
    ("Softmax", &[("axis", Any)]),
    ("Split", &[("axis", Any), ("split", Any), ("num_outputs", Any)]),
    ("Sqrt", &[]),
    ("Squeeze", &[("axes", Any)]),
    ("Sub", &[]),
    ("Sum", &[]),
    ("Tanh", &[]),
    ("Transpose", &[("perm", Any)]),
    ("Unsqueeze", &[("axes", Any)]),
    ("Upsample", &[("mode", Say(&["nearest", "linear"])), ("scales", Any)]),
    ("Where", &[]),
];

/// The names of all operations.
pub(super) fn names() -> String {
    OPERATIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// All that a graph asks for and that is not taken, node by node.
pub(super) fn complaints(graph: &Graph<'_>) -> Vec<String> {
    graph.nodes.iter().flat_map(complaints_of).collect()
}

fn complaints_of(node: &Node<'_>) -> Vec<String> {
    let title = node.title();
    if !matches!(node.domain, "" | "ai.onnx") {
        return vec![format!("`{title}` is a {} of the domain {}", node.op, node.domain)];
    }
    let Some((_, known)) = OPERATIONS.iter().find(|(name, _)| *name == node.op) else {
        return vec![format!("`{title}` is a {}", node.op)];
    };
    let wrong = |(name, attribute): &(&str, Attribute<'_>)| {
        let expected = match known.iter().find(|(own, _)| own == name) {
            None => "none".to_owned(),
            Some((_, must)) => must.of(attribute)?,
        };
        Some(format!("`{title}` ({}) has {name} {}, expected {expected}", node.op, shown(attribute)))
    };
    node.attributes.iter().filter_map(wrong).collect()
}

impl Must {
    /// What was expected, of another attribute.
    fn of(self, attribute: &Attribute<'_>) -> Option<String> {
        match (self, attribute) {
            (Self::Any, Attribute::Other) => Some("a number, a list or a tensor".into()),
            (Self::Any, _) => None,
            (Self::Be(number), Attribute::Int(found)) if *found == number => None,
            (Self::Be(number), Attribute::Ints(found)) if found.iter().all(|found| *found == number) => None,
            (Self::Be(number), _) => Some(number.to_string()),
            (Self::Say(words), Attribute::Text(found)) if words.contains(found) => None,
            (Self::Say(words), _) => Some(words.join(" or ")),
        }
    }
}

fn shown(attribute: &Attribute<'_>) -> String {
    match attribute {
        Attribute::Float(float) => float.to_string(),
        Attribute::Int(int) => int.to_string(),
        Attribute::Text(text) => (*text).to_owned(),
        Attribute::Ints(ints) => format!("{:?}", &ints[..ints.len().min(8)]),
        Attribute::Floats(floats) => format!("{:?}", &floats[..floats.len().min(8)]),
        Attribute::Tensor(_) => "a tensor".to_owned(),
        Attribute::Other => "a graph".to_owned(),
    }
}
