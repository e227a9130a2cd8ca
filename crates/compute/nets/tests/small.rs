//! Small networks against PyTorch and MONAI, to the last digits: `fixtures/make_networks.py` has made them so that no
//! activation lies where a derivative jumps. The networks of full size are in `golden`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use nets::{DualUNet2d, DualUNet2dConfig, Learning, Network, Params, UNet3d, UNet3dConfig};
use random::Streams;

type Tensors = HashMap<String, Tensor>;

/// The largest difference that is put down to the order of sums, relative to the largest value of a tensor.
const ROUNDING: f32 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn tensors(name: &str) -> Tensors {
    candle_core::safetensors::load(fixture(name), &Device::Cpu).unwrap()
}

fn fresh(network: &impl Network) -> Params {
    Params::init(&network.parameters(), Streams::new(0), &Device::Cpu).unwrap()
}

fn loaded(network: &impl Network, name: &str) -> Params {
    let params = fresh(network);
    params.load(&fixture(name)).unwrap();
    params
}

fn teacher() -> UNet3d {
    UNet3d::new(&UNet3dConfig { features: [4, 4, 4, 8, 8, 4] }, 3)
}

/// The decoders of the paper's student.
fn papers_decoders() -> [(String, usize); 2] {
    [("organ_decoder".to_owned(), 14), ("cancer_decoder".to_owned(), 2)]
}

fn student() -> DualUNet2d {
    DualUNet2d::new(&DualUNet2dConfig { features: [4, 4, 8, 8, 16, 4] }, &papers_decoders())
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

#[track_caller]
fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.elem_count(), expected.elem_count(), "{what}");
    let (found, expected) = (values(found), values(expected));
    let apart: Vec<f32> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
    assert!(found.iter().all(|value| value.is_finite()), "{what}");
    assert!(largest(&apart) <= ROUNDING * largest(&expected), "{what}: {} of {}", largest(&apart), largest(&expected));
}

/// The loss of one decoder, after its logits and its value were compared.
fn checked_loss(logits: &Tensor, part: &str, expected: &Tensors) -> Tensor {
    assert_close(logits, &expected[&format!("{part}_logits")], &format!("{part} logits"));
    let loss = ops::dice_ce(logits, &expected[&format!("{part}_target")].squeeze(1).unwrap()).unwrap();
    assert_close(&loss, &expected[&format!("{part}_loss")], &format!("{part} loss"));
    loss
}

/// The largest gradient.
fn largest_gradient(params: &Params, expected: &Tensors) -> f32 {
    params.all().map(|(name, _)| largest(&values(&expected[&format!("grad.{name}")]))).fold(0.0, f32::max)
}

fn check_gradient(name: &str, found: &Tensor, expected: &Tensors, scale: f32) {
    if name.contains(".conv_") && name.ends_with("conv.bias") {
        // Without effect before an instance norm; only rounding keeps it from zero.
        assert!(largest(&values(found)) <= ROUNDING * scale, "{name}");
    } else {
        assert_close(found, &expected[&format!("grad.{name}")], name);
    }
}

fn check_gradients(params: &Params, loss: &Tensor, expected: &Tensors) {
    let (gradients, scale) = (loss.backward().unwrap(), largest_gradient(params, expected));
    for (name, var) in params.all() {
        check_gradient(name, gradients.get(&var).unwrap_or_else(|| panic!("no gradient of {name}")), expected, scale);
    }
}

#[test]
fn a_small_teacher_has_pytorchs_logits_loss_and_gradients() {
    let expected = tensors("small_teacher.safetensors");
    let params = loaded(&teacher(), "small_teacher.safetensors");
    let logits = teacher().forward(&params, &expected["input"]).unwrap();
    check_gradients(&params, &checked_loss(&logits, "organ", &expected), &expected);
}

#[test]
fn a_small_student_has_pytorchs_logits_losses_and_gradients() {
    let expected = tensors("small_student.safetensors");
    let params = loaded(&student(), "small_student.safetensors");
    let logits = student().logits(&params, &expected["input"], &[0, 1]).unwrap();
    let [organs, cancer] = [(0, "organ"), (1, "cancer")].map(|(output, part)| checked_loss(&logits[output], part, &expected));
    check_gradients(&params, &(organs + cancer).unwrap(), &expected);
}

/// How many gradients of weights were computed, be they asked for or not: `backward` leaves them in the store. Those of vectors come
/// together and cost nothing.
fn computed(gradients: &GradStore) -> usize {
    gradients.get_ids().filter(|id| gradients.get_id(**id).is_some_and(|gradient| gradient.rank() > 1)).count()
}

/// The gradients of a student in training of which only the parameters whose names satisfy `live` learn, after logits, losses and these
/// gradients were compared. Of frozen weights none may be
/// computed.
fn learned_in_part(live: impl Fn(&str) -> bool, decoders: &[usize]) {
    let expected = tensors("small_student.safetensors");
    let mut params = loaded(&student(), "small_student.safetensors");
    params.set_live(live);
    let learning = Learning::new(params);
    let logits = learning.student(&student(), &expected["input"], decoders).unwrap();
    let losses = logits.iter().zip(decoders).map(|(logits, &decoder)| checked_loss(logits, ["organ", "cancer"][decoder], &expected));
    let gradients = losses.reduce(|a, b| (a + b).unwrap()).unwrap().backward().unwrap();
    let scale = largest_gradient(learning.params(), &expected);
    for (name, var) in learning.params().live() {
        let found = gradients.get(&var).unwrap_or_else(|| panic!("no gradient of {name}"));
        check_gradient(name, found, &expected, scale);
    }
    assert_eq!(computed(&gradients), learning.params().live().filter(|(_, var)| var.rank() > 1).count());
}

#[test]
fn a_student_that_learns_in_part_has_pytorchs_gradients_and_no_others() {
    learned_in_part(|name| name.starts_with("organ_decoder."), &[0]);
    learned_in_part(|name| name.starts_with("cancer_decoder."), &[1]);
    learned_in_part(|name| name.contains("_decoder."), &[0, 1]);
    learned_in_part(|name| name.starts_with("upcat_"), &[0, 1]);
    // Frozen layers lie behind live ones here, and hand gradients on.
    learned_in_part(|name| name.starts_with("down_2."), &[0, 1]);
    learned_in_part(|name| name.starts_with("conv_0."), &[0, 1]);
    learned_in_part(|name| name.ends_with(".weight"), &[0, 1]);
    learned_in_part(|name| name.contains(".adn.N."), &[0, 1]);
    learned_in_part(|_| true, &[0, 1]);
}

#[test]
fn a_teacher_that_learns_in_part_has_pytorchs_gradients_and_no_others() {
    let expected = tensors("small_teacher.safetensors");
    for part in ["upcat_1.", "upcat_", "final_conv.", "down_3.", ""] {
        let mut params = loaded(&teacher(), "small_teacher.safetensors");
        params.set_live(|name| name.starts_with(part));
        let learning = Learning::new(params);
        let logits = learning.run(&teacher(), &expected["input"]).unwrap();
        let gradients = checked_loss(&logits, "organ", &expected).backward().unwrap();
        let scale = largest_gradient(learning.params(), &expected);
        for (name, var) in learning.params().live() {
            check_gradient(name, gradients.get(&var).unwrap_or_else(|| panic!("no gradient of {name}")), &expected, scale);
        }
        assert_eq!(computed(&gradients), learning.params().live().filter(|(_, var)| var.rank() > 1).count(), "{part}");
    }
}

#[test]
fn a_state_dict_of_pytorch_holds_the_same_weights() {
    let (ours, pytorchs) = (loaded(&student(), "small_student.safetensors"), loaded(&student(), "small_student.pth"));
    for ((name, ours), (_, pytorchs)) in ours.all().zip(pytorchs.all()) {
        assert_eq!(values(&ours), values(&pytorchs), "{name}");
    }
}

#[test]
fn what_is_saved_is_loaded_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let params = fresh(&student());
    params.save(&path, &[("classes".to_owned(), "16".to_owned())].into()).unwrap();
    let again = loaded(&student(), "small_student.safetensors");
    again.load(&path).unwrap();
    for ((name, before), (_, after)) in params.all().zip(again.all()) {
        assert_eq!(values(&before), values(&after), "{name}");
    }
}

#[test]
fn equal_weights_make_equal_files_whatever_is_told_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let params = fresh(&student());
    for n in 0..8 {
        let metadata = ('a'..'i').take(n).map(|letter| (letter.to_string(), format!("\"{letter}\"\n"))).collect();
        let files = ["one.safetensors", "two.safetensors"].map(|name| {
            let path = folder.path().join(name);
            params.save(&path, &metadata).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(nets::metadata(&path).unwrap().into_iter().collect::<BTreeMap<_, _>>(), metadata);
            assert_eq!(usize::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0, "the data stand where they can be mapped");
            fresh(&student()).load(&path).unwrap();
            bytes
        });
        assert!(files[0] == files[1], "{n} entries");
    }
}

#[test]
fn weights_of_another_network_are_refused_and_change_nothing() {
    let wider = DualUNet2d::new(&DualUNet2dConfig { features: [8, 4, 8, 8, 16, 4] }, &papers_decoders());
    let params = fresh(&wider);
    let before: Vec<_> = params.all().map(|(_, var)| values(&var)).collect();
    for (file, found) in [
        ("small_teacher.safetensors", "`cancer_decoder.final_conv.bias` is missing"),
        ("small_student.safetensors", "has shape [4, 1, 3, 3] instead of [8, 1, 3, 3]"),
        ("small_student.pth", "do not fit the network"),
    ] {
        let error = params.load(&fixture(file)).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains("Take weights of the same network"), "{error}");
        assert!(error.contains(found), "{error}");
    }
    assert!(params.all().map(|(_, var)| values(&var)).eq(before));
}

#[test]
fn files_that_hold_no_weights_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let params = fresh(&student());
    let error = |name: &str| params.load(&folder.path().join(name)).unwrap_err().to_string();
    for name in ["cut.safetensors", "cut.pth"] {
        let whole = std::fs::read(fixture(&name.replace("cut", "small_student"))).unwrap();
        std::fs::write(folder.path().join(name), &whole[..whole.len() / 2]).unwrap();
        assert!(error(name).contains("cannot read the weights") && error(name).contains(name), "{}", error(name));
    }
    assert!(error("none.safetensors").contains("there are no weights at"), "{}", error("none.safetensors"));
}
