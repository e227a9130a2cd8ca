//! Makes models that other programs have trained into files of this one, so that every stage that takes a model takes them.

use std::path::Path;

use anyhow::{Result, ensure};
use foreign::Foreign;
use foreign::monai::{self, Declared};
use foreign::nnunet::{Choice, Results};
use foreign::onnx;
use inference::{Manner, Model};
use model_card::MODEL_FILE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{DeviceChoice, Role, Stage, StageIo};

/// What a bundle of MONAI's calls its weights.
const BUNDLE_FILE: &str = "models/model.pt";

/// Who has trained the model, and what it does not say of itself: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A results folder of nnU-Net's second version; `{}` takes all of its folds.
    #[serde(skip_serializing_if = "Option::is_none")]
    nnunet: Option<Choice>,
    /// The state dict of a BasicUNet, UNETR or SwinUNETR of MONAI's.
    #[serde(skip_serializing_if = "Option::is_none")]
    monai: Option<Declared>,
    /// An ONNX graph of a convolutional network, of volumes or of slices.
    #[serde(skip_serializing_if = "Option::is_none")]
    onnx: Option<onnx::Declared>,
}

/// The stage `import`.
pub struct Import;

impl Stage for Import {
    const NAME: &'static str = "import";
    const REVISION: u32 = 2;
    const ABOUT: &'static str = "Makes models of nnU-Net and MONAI, and ONNX graphs, into files for every stage that takes a model";
    const READS: &'static [Role] = &[Role::required(
        "model",
        "a folder with plans.json, dataset.json and fold_0 of a training by nnU-Net; or a state dict of MONAI's, .pt, .pth or \
         .safetensors, or a bundle with models/model.pt; or an .onnx file, or a folder with one and the weights that lie beside it",
    )];
    const WRITES: &'static str = "model.safetensors, or fold_0.safetensors and so on where there are several folds: the weights, and in the file's \
         metadata what the model is";
    const PAPER: &'static str = "2.3";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn check(config: &Config) -> Result<()> {
        match config {
            Config { nnunet: Some(choice), monai: None, onnx: None } => choice.check().map_err(|error| anyhow::anyhow!("nnunet.{error}")),
            Config { nnunet: None, monai: Some(declared), onnx: None } => {
                declared.check().map_err(|error| anyhow::anyhow!("monai.{error}"))
            }
            Config { nnunet: None, monai: None, onnx: Some(declared) } => declared.check().map_err(|error| anyhow::anyhow!("onnx.{error}")),
            _ => anyhow::bail!("give exactly one of `nnunet`, `monai` and `onnx`, whose model it is"),
        }
    }

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let model = io.input("model")?;
        match config {
            Config { nnunet: Some(choice), .. } => of_nnunet(choice, model, io),
            Config { monai: Some(declared), .. } => {
                let bundled = model.join(BUNDLE_FILE);
                let file = if model.is_dir() { &bundled } else { model };
                ensure!(file.is_file(), "there is no {}; give a state dict, or a bundle that has {BUNDLE_FILE}", file.display());
                write(monai::import(file, declared)?, MODEL_FILE, io)
            }
            Config { onnx: Some(declared), .. } => of_onnx(declared, model, io),
            _ => Self::check(config),
        }
    }
}

fn of_onnx(declared: &onnx::Declared, model: &Path, io: &StageIo) -> Result<()> {
    let found = onnx::import(model, declared)?;
    // The digest of a single file does not tell what lies beside it.
    ensure!(
        !(io.planned && found.beside && model.is_file()),
        "{} has its weights in a file beside it; give the folder that holds both, so that a change of either shows",
        model.display()
    );
    write(found.model, MODEL_FILE, io)
}

fn of_nnunet(choice: &Choice, folder: &Path, io: &StageIo) -> Result<()> {
    let results = Results::read(folder, choice)?;
    let (orientation, is_said) = results.orientation()?;
    if !is_said {
        let how = "as nothing says otherwise; if they did not, give `trained_on`, or left and right may change places";
        io.report.note(&format!("{}: the scans of the training are taken to lie in {orientation}, {how}", io.node));
    }
    for fold in results.folds() {
        let name = if results.folds().len() == 1 { MODEL_FILE.to_owned() } else { format!("fold_{fold}.safetensors") };
        write(results.fold(fold)?, &name, io)?;
    }
    Ok(())
}

/// Writes a model, says what was taken, and opens it as those do that take it.
fn write(mut model: Foreign, name: &str, io: &StageIo) -> Result<()> {
    let origin = &mut model.card.origin;
    (origin.node, origin.key, origin.inputs) = (Some(io.node.clone()), io.known.key.clone(), io.digests()?);
    let path = io.output.join(name);
    model.save(&path)?;
    io.report.note(&format!("{}: {name}: {}; {}", io.node, model.card.origin.cases, model.account()));
    let manner = Manner { partial: Some(partial::open), ..Manner::default() };
    Model::open(&[path], &manner, &nets::device(DeviceChoice::Cpu)?)?;
    Ok(())
}
