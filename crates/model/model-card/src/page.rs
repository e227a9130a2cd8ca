//! What a model says of itself, as a page: for people, and as the hub's model card (`README.md` with YAML front matter).

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use volume::Resampling;

use crate::mirrors::along;
use crate::{Kind, Measure, ModelCard};

/// What a model's page says that the model does not know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Publication {
    /// The name of the model; left out, the node that trained it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The licence of the weights, by the hub's short name, such as `cc-by-nc-4.0`. The licences of the training data bind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The datasets behind the training cases, by their names on the hub or elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<String>,
    /// What it is for; left out, research.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intended_use: Option<String>,
    /// What is known not to work, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// How to cite it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub citation: Option<String>,
}

/// The beginning of a model card, which the hub reads.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FrontMatter<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<&'a str>,
    // The hub's names have underscores in these.
    #[serde(rename = "library_name")]
    library_name: &'static str,
    #[serde(rename = "pipeline_tag")]
    pipeline_tag: &'static str,
    tags: Vec<&'static str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    datasets: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_index: Vec<Indexed<'a>>,
}

#[derive(Serialize)]
struct Indexed<'a> {
    name: &'a str,
    results: [Scored; 1],
}

#[derive(Serialize)]
struct Scored {
    task: Named,
    dataset: Named,
    metrics: [Metric; 1],
}

#[derive(Serialize)]
struct Named {
    r#type: &'static str,
    name: String,
}

#[derive(Serialize)]
struct Metric {
    r#type: &'static str,
    name: &'static str,
    value: f64,
}

const TASK: &str = "image-segmentation";

impl Publication {
    /// The page of a model beside which these files lie, in the hub's form.
    ///
    /// # Errors
    /// When it has no form in YAML.
    pub fn page(&self, card: &ModelCard, files: &[&str]) -> Result<String, serde_yaml::Error> {
        let name = self.name.as_deref().or(card.origin.node.as_deref()).unwrap_or("model");
        let front = serde_yaml::to_string(&self.front_matter(card, name, files))?;
        let mut page = format!("---\n{front}---\n\n# {name}\n\n{}", card.page());
        let intended = self.intended_use.as_deref().unwrap_or("Research. It is no medical device, and nobody has examined it as one.");
        section(&mut page, "Intended use", intended);
        let mut limits = vec!["It knows the classes above and no others; whatever else is in a scan is background to it."];
        limits.push(match card.origin.best_epoch {
            0 => "How good it is was not measured here.",
            _ => {
                "The score is of validation cases like those that it was trained on. Other scanners, protocols and patients were not tried."
            }
        });
        limits.extend(self.limits.iter().map(String::as_str));
        section(&mut page, "Limits", &list(&limits));
        section(
            &mut page,
            "Licence",
            self.licence.as_deref().unwrap_or("Not stated. The licences of the training data bind the weights, too."),
        );
        section(&mut page, "How to run", &how_to_run(files));
        if let Some(citation) = &self.citation {
            section(&mut page, "Citation", citation);
        }
        Ok(page)
    }

    fn front_matter<'a>(&'a self, card: &ModelCard, name: &'a str, files: &[&str]) -> FrontMatter<'a> {
        let mut tags = vec!["medical-imaging", "computed-tomography", "segmentation"];
        tags.extend(files.iter().any(|file| has_ending(file, "onnx")).then_some("onnx"));
        // The hub compares scores; a loss is none.
        let dice = (card.origin.measure == Some(Measure::Dice)).then(|| Scored {
            task: Named { r#type: TASK, name: "Segmentation of CT scans".into() },
            dataset: Named { r#type: "validation", name: format!("validation cases of {}", card.origin.cases) },
            metrics: [Metric { r#type: "dice", name: "mean Dice score", value: card.origin.validation_score }],
        });
        FrontMatter {
            license: self.licence.as_deref(),
            library_name: "flare",
            pipeline_tag: TASK,
            tags,
            datasets: &self.datasets,
            model_index: dice.into_iter().map(|scored| Indexed { name, results: [scored] }).collect(),
        }
    }
}

impl ModelCard {
    /// What the model says of itself, in Markdown.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = format!("A {}.\n", self.kind);
        section(&mut page, "Classes", &self.classes_table());
        section(&mut page, "Input", &self.input_list());
        section(&mut page, "Training", &self.origin_list());
        page
    }

    fn classes_table(&self) -> String {
        let mut table = String::from("| group | class | value in label maps | name |\n|---|---|---|---|\n");
        for group in self.classes.groups() {
            for class in group.classes() {
                let _ = writeln!(table, "| {} | `{}` | {} | {} |", group.key(), class.key, class.value, class.name);
            }
        }
        table + "\nClasses of a group exclude each other; those of later groups lie over those of earlier ones."
    }

    fn input_list(&self) -> String {
        let input = &self.input;
        let spacing = input.grid.spacing_mm.map(|mm| mm.map_or_else(|| "that of the scan".into(), |mm| format!("{mm} mm")));
        let [low, high] = input.grid.window_hu;
        let [least, most] = input.scaling.clip;
        let mut list = vec![
            format!("Network: `{}`", self.network),
            format!("Orientation: {}", input.habits.orientation()),
            format!("Spacing along x, y, z: {}", spacing.join(", ")),
            format!("Intensities: {low} to {high} HU become 0 to 1, and what lies outside is clipped"),
        ];
        if input.habits.resampling == Resampling::Clipped {
            list.push("Resampling: after that, linear, and from the nearest slice across thick ones; both grids share their edges".into());
        }
        if !input.scaling.is_plain() {
            let (shift, scale) = (input.scaling.shift, input.scaling.scale);
            list.push(format!("These are clipped to {least} to {most}, less {shift}, divided by {scale}"));
        }
        list.push(format!("Part of the scan: {}", if input.crop_foreground { "the box around the patient" } else { "all of it" }));
        if !input.patch.is_empty() {
            let sides: Vec<String> = input.patch.iter().map(ToString::to_string).collect();
            list.push(format!(
                "{}: {}",
                if self.kind == Kind::Student { "Pixels of a crop" } else { "Voxels of a patch" },
                sides.join(" × ")
            ));
        }
        self::list(&list)
    }

    fn origin_list(&self) -> String {
        let origin = &self.origin;
        let measure = match origin.measure {
            Some(Measure::Dice) => "mean Dice score of the validation cases (0 to 1)",
            Some(Measure::Loss) => "loss of the validation cases",
            None => "validation score (a Dice score or a loss)",
        };
        let mut list = vec![format!("Cases: {}", origin.cases)];
        if origin.best_epoch > 0 {
            list.push(format!("{measure}, after epoch {}: {}", origin.best_epoch, origin.validation_score));
            list.push(format!("Seed: {}", origin.seed));
        }
        list.extend(origin.mirrored.map(|axes| format!("Samples were mirrored along {}", along(&axes))));
        list.extend(origin.node.as_ref().map(|node| format!("Trained by: `{node}`")));
        list.extend(origin.key.as_ref().map(|key| format!("Key of the training: `{key}`")));
        list.extend(origin.inputs.iter().map(|(role, digest)| format!("Digest of its `{role}`: `{digest}`")));
        self::list(&list)
    }
}

fn section(page: &mut String, title: &str, text: &str) {
    let _ = write!(page, "\n## {title}\n\n{}\n", text.trim_end());
}

fn list<T: AsRef<str>>(items: &[T]) -> String {
    items.iter().map(|item| format!("- {}\n", item.as_ref())).collect()
}

fn has_ending(file: &str, ending: &str) -> bool {
    std::path::Path::new(file).extension().is_some_and(|found| found == ending)
}

fn how_to_run(files: &[&str]) -> String {
    let mut text = String::new();
    for file in files {
        if has_ending(file, "onnx") {
            let _ = write!(
                text,
                "`{file}` is for onnxruntime and others. Its metadata say what the image must be (`input`) and what the channels mean (`outputs`):\n\n\
                 ```python\nimport onnxruntime\nsession = onnxruntime.InferenceSession(\"{file}\")\n\
                 print(session.get_modelmeta().custom_metadata_map[\"input\"])\n\
                 logits = session.run(None, {{\"image\": image}})\n```\n\n"
            );
        } else {
            let _ = write!(
                text,
                "`{file}` is for `predict`, and holds the weights under the names of PyTorch's modules:\n\n\
                 ```sh\npredict SCANS LABELS --model {file}\n```\n\n"
            );
        }
    }
    text
}
