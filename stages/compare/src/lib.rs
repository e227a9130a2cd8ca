//! Lays methods side by side: what they reach on the same cases, and what they cost.

mod cost;
mod scores;

use anyhow::{Context, Result, ensure};
use metrics::{Paired, Protocol, Stat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Role, Stage, StageIo, write_atomic_text};

use crate::cost::Cost;
use crate::scores::{Method, Target};

/// The parameters of `compare`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The scores of which protocol are compared, `official` or `plain`.
    #[schemars(with = "String")]
    pub protocol: Protocol,
    /// The method that the others are held against, by its name among the predictions.
    pub reference: String,
    /// How often the pass of a model over a patch is timed; the median counts. 0 times nothing.
    #[serde(default = "five")]
    pub repeats: usize,
}

fn five() -> usize {
    5
}

/// The stage `compare`.
pub struct Compare;

impl Stage for Compare {
    const NAME: &'static str = "compare";
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "Lays methods side by side: scores with paired statistics, parameters and times";
    const READS: &'static [Role] = &[
        Role::required("scores", "the output of evaluate, with the predictions of every method"),
        Role::many(
            "models",
            "the folder with weights.safetensors of a method and the times of its training, under its name among the predictions",
        ),
    ];
    const WRITES: &'static str = "compare.md: the table; compare.csv: the same; classes.csv: DSC, NSD and HD95 of every class";
    const PAPER: &'static str = "none";
    type Config = Config;

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let methods = scores::load(io.input("scores")?, config.protocol)?;
        let reference = methods.iter().find(|method| method.name == config.reference).with_context(|| {
            let names: Vec<&str> = methods.iter().map(|method| method.name.as_str()).collect();
            format!("reference: the scores have no method `{}`; they have {}", config.reference, names.join(", "))
        })?;
        let models = io.inputs_under("models");
        for (name, _) in &models {
            ensure!(methods.iter().any(|method| method.name == *name), "models.{name}: the scores have no method of that name");
        }
        let cost = |method: &Method| match models.iter().find(|(name, _)| *name == method.name) {
            None => Ok(Cost::default()),
            Some((_, folder)) => cost::of(folder, config.repeats, &nets::device(io.device)?),
        };
        let rows = methods.iter().map(|method| Ok(Row::of(method, reference, cost(method)?))).collect::<Result<Vec<_>>>()?;
        write_atomic_text(&io.output.join("compare.md"), &markdown(config, &methods, &rows))?;
        write_atomic_text(&io.output.join("compare.csv"), &csv(&rows))?;
        write_atomic_text(&io.output.join("classes.csv"), &scores::classes_csv(&methods))
    }
}

/// One method.
struct Row {
    name: String,
    targets: [(Stat, Option<Paired>); 2],
    cost: Cost,
}

impl Row {
    fn of(method: &Method, reference: &Method, cost: Cost) -> Self {
        let of = |target: Target| {
            let paired = (method.name != reference.name).then(|| Paired::of(&method.paired_with(reference, target)));
            (method.stat(target), paired)
        };
        Self { name: method.name.clone(), targets: [of(Target::Organs), of(Target::Tumor)], cost }
    }
}

const DASH: &str = "–";

fn markdown(config: &Config, methods: &[Method], rows: &[Row]) -> String {
    let reference = &config.reference;
    let mut text = format!(
        "| method | organs DSC (%) | against {reference} | p | tumor DSC (%) | against {reference} | p | parameters | training (s) | a patch (s) |\n|---|{}\n",
        "---:|".repeat(9)
    );
    for row in rows {
        text += &format!("| {} |", row.name.replace('|', "\\|"));
        for (stat, paired) in &row.targets {
            let p = paired.and_then(|paired| paired.p).map_or(DASH.to_owned(), |p| format!("{p:.3}"));
            let difference = paired.map_or(DASH.to_owned(), |paired| paired.difference.percent());
            text += &format!(" {} | {difference} | {p} |", stat.percent());
        }
        let Cost { parameters, training_seconds, patch_seconds } = &row.cost;
        let shown = |value: &Option<f64>, digits: usize| value.map_or(DASH.to_owned(), |value| format!("{value:.digits$}"));
        let parameters = parameters.map_or(DASH.to_owned(), |n| n.to_string());
        text += &format!(" {parameters} | {} | {} |\n", shown(training_seconds, 0), shown(patch_seconds, 3));
    }
    let cases = methods.iter().map(|method| method.cases.len()).max().unwrap_or(0);
    text + &format!(
        "\nMean ± standard deviation over {cases} cases, {} protocol. Differences and Wilcoxon's signed-rank test (two-sided) are over the \
         cases that both methods have a score for. A patch: one pass for all classes over a patch of the training's size, the median of \
         {} passes.\n",
        config.protocol, config.repeats
    )
}

fn csv(rows: &[Row]) -> String {
    let mut text = String::from("method");
    for target in ["organs", "tumor"] {
        for column in ["dsc", "dsc_sd", "n", "difference", "difference_sd", "pairs", "p"] {
            text += &format!(",{target}_{column}");
        }
    }
    text += ",parameters,training_seconds,patch_seconds\n";
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6}"));
    for row in rows {
        text += &scores::csv_field(&row.name);
        for (stat, paired) in &row.targets {
            let difference = paired.map(|paired| paired.difference);
            text += &format!(",{},{},{}", number(stat.mean), number(stat.sd), stat.n);
            text += &format!(",{},{}", number(difference.and_then(|stat| stat.mean)), number(difference.and_then(|stat| stat.sd)));
            text +=
                &format!(",{},{}", difference.map_or(String::new(), |stat| stat.n.to_string()), number(paired.and_then(|paired| paired.p)));
        }
        let Cost { parameters, training_seconds, patch_seconds } = &row.cost;
        let parameters = parameters.map_or(String::new(), |n| n.to_string());
        text += &format!(",{parameters},{},{}\n", number(*training_seconds), number(*patch_seconds));
    }
    text
}
