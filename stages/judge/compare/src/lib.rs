//! Lays methods side by side: what they reach on the same cases, and what they cost.

mod cost;
mod scores;

use std::path::Path;

use anyhow::{Context, Result};
use comparison::{Compared, Comparison, Reached};
use metrics::{Protocol, ScoredClass, ScoredGroup};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stage_kit::{Role, Stage, StageIo, write_atomic_text};

use crate::scores::{Method, Scored};

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
    const REVISION: u32 = 4;
    const ABOUT: &'static str =
        "Lays methods side by side: scores over several trainings with paired statistics, parameters, times and memory";
    const READS: &'static [Role] = &[
        Role::many("scores", "the output of evaluate, one for each training of the methods, with the predictions under the same names"),
        Role::many(
            "models",
            "the folder with weights.safetensors and the times of training of a method's model, under the method's name; under METHOD.PART a \
             model that is trained on the way to it",
        ),
    ];
    const WRITES: &'static str = "compare.md: the table; compare.csv, compare.json: the same; compare.svg: scores against costs; classes.csv: DSC, NSD and HD95 of every class";
    const PAPER: &'static str = "none";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn run(config: &Config, io: &StageIo) -> Result<()> {
        let scored = scores::load(&io.inputs_under("scores"), config.protocol)?;
        let comparison = compare(config, &scored, io)?;
        let json = serde_json::to_string_pretty(&comparison)? + "\n";
        let (markdown, csv, svg) = (comparison.markdown(), comparison.csv(), comparison.svg());
        let files = [("compare.md", &markdown), ("compare.csv", &csv), ("compare.svg", &svg), (comparison::FILE, &json)];
        for (name, text) in files {
            write_atomic_text(&io.output.join(name), text)?;
        }
        write_atomic_text(&io.output.join("classes.csv"), &scores::classes_csv(&scored))
    }
}

fn compare(config: &Config, scored: &Scored, io: &StageIo) -> Result<Comparison> {
    let methods = &scored.methods;
    let reference = methods.iter().find(|method| method.name == config.reference).with_context(|| {
        let names: Vec<&str> = methods.iter().map(|method| method.name.as_str()).collect();
        format!("reference: the scores have no method `{}`; they have {}", config.reference, names.join(", "))
    })?;
    let models = models(methods, &io.inputs_under("models"))?;
    let device = nets::device(io.device)?;
    let groups = ScoredGroup::of(&scored.classes);
    let compared = |(method, parts): (&Method, &Vec<Model<'_>>)| {
        let of_group = |group: &ScoredGroup| {
            let classes: Vec<&ScoredClass> = scored.classes.iter().filter(|class| class.group == group.key).collect();
            let other = (method.name != reference.name).then(|| reference.mean_dsc(&classes));
            (group.key.clone(), Reached::of(&method.mean_dsc(&classes), other.as_deref()))
        };
        Ok(Compared {
            name: method.name.clone(),
            trainings: method.trainings.len(),
            reached: groups.iter().map(of_group).collect(),
            cost: cost::of(parts, config.repeats, &device)?,
        })
    };
    let compared = methods.iter().zip(&models).map(compared).collect::<Result<_>>()?;
    Ok(Comparison {
        protocol: config.protocol,
        reference: config.reference.clone(),
        patients: methods.iter().map(Method::cases).max().unwrap_or(0),
        repeats: config.repeats,
        groups,
        methods: compared,
    })
}

/// A trained model.
struct Model<'a> {
    folder: &'a Path,
    /// Whether it is what labels; else it is a part on the way.
    labels: bool,
}

/// The models of each method. A part's method is the one whose name, of all that fit, is the longest.
fn models<'a>(methods: &[Method], given: &[(&str, &'a Path)]) -> Result<Vec<Vec<Model<'a>>>> {
    let mut models: Vec<Vec<Model<'a>>> = methods.iter().map(|_| Vec::new()).collect();
    for &(name, folder) in given {
        let fits = |method: &Method| name.strip_prefix(&method.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let method = (0..methods.len()).filter(|&at| fits(&methods[at])).max_by_key(|&at| methods[at].name.len());
        let method =
            method.with_context(|| format!("models.{name}: the scores have no method of that name, nor of what stands before a `.`"))?;
        models[method].push(Model { folder, labels: name == methods[method].name });
    }
    Ok(models)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_belongs_to_the_longest_name_that_it_begins_with() {
        let methods: Vec<Method> = ["a", "a.b", "c"].map(|name| Method { name: name.into(), trainings: Vec::new() }).into();
        let path = Path::new("x");
        let found = models(&methods, &[("a", path), ("a.b", path), ("a.b.first", path), ("a.x", path)]).unwrap();
        let labels: Vec<Vec<bool>> = found.iter().map(|models| models.iter().map(|model| model.labels).collect()).collect();
        assert_eq!(labels, [vec![true, false], vec![true, false], vec![]]);
        assert!(models(&methods, &[("ab", path)]).is_err_and(|error| error.to_string().contains("models.ab: the scores have no method")));
    }
}
