//! Teachers side by side (paper, Table 5): what each costs, and its scores per class where there are any.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use metrics::Summary;
use metrics::table::{Row, Table};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use stage_kit::{Role, Stage, StageIo, write_atomic_text};

/// The parameters of `tabulate-teachers`: none.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// What `profile-teacher` writes, as far as it is shown.
#[derive(Clone, Debug, Deserialize)]
struct Profile {
    parameters: usize,
    live_parameters: usize,
    macs: u64,
    seconds_per_step: f64,
    peak_memory_bytes: Option<u64>,
}

/// The stage `tabulate-teachers`.
pub struct CompareTeachers;

impl Stage for CompareTeachers {
    const NAME: &'static str = "tabulate-teachers";
    const REVISION: u32 = 1;
    const ABOUT: &'static str = "Lays teachers side by side: parameters, multiplications, time and memory of a step, scores per class";
    const READS: &'static [Role] = &[
        Role::many("profiles", "the output of profile-teacher for one network each"),
        Role::optional("scores", "the output of evaluate; its models bear the names of the profiles"),
    ];
    const WRITES: &'static str = "teachers.md and teachers.csv";
    const PAPER: &'static str = "4.1, Table 5";
    const EXAMPLE: &'static str = include_str!("../example.yaml");
    type Config = Config;

    fn run(_: &Config, io: &StageIo) -> Result<()> {
        let mut profiles = BTreeMap::new();
        for (name, folder) in io.inputs_under("profiles") {
            profiles.insert(name.to_owned(), read::<Profile>(&folder.join("profile.json"))?);
        }
        let summaries = match io.input_opt("scores")? {
            Some(folder) => read::<Vec<Summary>>(&folder.join("official.json"))?,
            None => Vec::new(),
        };
        let rows = rows(&profiles, &summaries)?;
        write_atomic_text(&io.output.join("teachers.md"), &markdown(&rows))?;
        write_atomic_text(&io.output.join("teachers.csv"), &tables::to_csv(&rows))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not what its stage writes; run that again", path.display()))
}

/// A cost's name and how it is written.
type Cost = (&'static str, fn(&Profile) -> String);

/// The table, a head and then rows of as many cells: two for each network, of which a cost takes the first.
fn rows(profiles: &BTreeMap<String, Profile>, summaries: &[Summary]) -> Result<Vec<Vec<String>>> {
    let names: Vec<&String> = profiles.keys().collect();
    for summary in summaries {
        let expected = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        ensure!(profiles.contains_key(&summary.model), "scores: there is no profile of {}; there are those of {expected}", summary.model);
    }
    let head = names.iter().flat_map(|name| [format!("{name} DSC (%)"), format!("{name} NSD (%)")]);
    let mut rows: Vec<Vec<String>> = vec![std::iter::once(String::new()).chain(head).collect()];
    let costs: [Cost; 5] = [
        ("Parameters (M)", |profile| format!("{:.3}", profile.parameters as f64 / 1e6)),
        ("of them trained (M)", |profile| format!("{:.3}", profile.live_parameters as f64 / 1e6)),
        ("Multiplications of a pass (G)", |profile| format!("{:.1}", profile.macs as f64 / 1e9)),
        ("Training step (s)", |profile| format!("{:.2}", profile.seconds_per_step)),
        ("Peak memory of a step (GiB)", |profile| {
            profile.peak_memory_bytes.map_or_else(|| "–".into(), |bytes| format!("{:.2}", bytes as f64 / f64::from(1 << 30)))
        }),
    ];
    for (title, cost) in costs {
        let cells = profiles.values().flat_map(|profile| [cost(profile), String::new()]);
        rows.push(std::iter::once(title.to_owned()).chain(cells).collect());
    }
    if summaries.is_empty() {
        return Ok(rows);
    }
    let table = Table::of(summaries)?;
    let scores = |row: &Row, name: &str| {
        let place = table.models.iter().position(|model| model.name == name);
        place.map_or_else(|| ["–".into(), "–".into()], |place| [row.cells[place].dsc.percent(), row.cells[place].nsd.percent()])
    };
    for row in &table.rows {
        rows.push(std::iter::once(row.target.clone()).chain(names.iter().flat_map(|name| scores(row, name))).collect());
    }
    Ok(rows)
}

fn markdown(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        text += &format!("| {} |\n", row.join(" | "));
        if number == 0 {
            text += &format!("|---|{}\n", "---:|".repeat(row.len() - 1));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use labels::flare23;
    use metrics::{CaseScores, ClassScore, Protocol, Scored, Scoring};

    use super::*;

    fn profile(parameters: usize) -> Profile {
        Profile { parameters, live_parameters: 1_000_000, macs: 75_644_272_640, seconds_per_step: 2.973, peak_memory_bytes: Some(3 << 30) }
    }

    fn summary(model: &str, dsc: f64) -> Summary {
        let score = |scored: &Scored| {
            let (class, hd_mm) = (scored.class.clone(), Some(1.0));
            ClassScore { class, dsc: Some(dsc), nsd: Some(0.5), hd_mm, hd95_mm: hd_mm, note: None }
        };
        let classes = Scoring::of(&flare23::classes()).classes().iter().map(score).collect();
        let scores = CaseScores { protocol: Protocol::Official, classes };
        Summary::of(model, &[("a".into(), scores.clone()), ("b".into(), scores)]).unwrap()
    }

    fn profiles() -> BTreeMap<String, Profile> {
        [("3D_U-Net".to_owned(), profile(1_439_006)), ("UNETR".to_owned(), profile(93_029_806))].into()
    }

    #[test]
    fn costs_stand_above_scores_and_a_network_without_scores_has_dashes() {
        let rows = rows(&profiles(), &[summary("UNETR", 0.25)]).unwrap();
        assert!(rows.iter().all(|row| row.len() == 5), "{rows:?}");
        assert_eq!(rows[0][3], "UNETR DSC (%)");
        assert_eq!(rows[1], ["Parameters (M)", "1.439", "", "93.030", ""]);
        assert_eq!(rows[3][1], "75.6");
        assert_eq!(rows[5][3], "3.00");
        assert_eq!(rows[6], ["Liver", "–", "–", "25.00 ± 0.00", "50.00 ± 0.00"]);
        assert_eq!(rows.len(), 1 + 5 + 14 + 2);
        assert_eq!(markdown(&rows).lines().count(), rows.len() + 1);
        assert!(tables::to_csv(&rows).starts_with(",3D_U-Net DSC (%),3D_U-Net NSD (%),UNETR DSC (%),UNETR NSD (%)\n"));
    }

    #[test]
    fn scores_of_a_network_that_was_not_profiled_are_told() {
        assert_eq!(rows(&profiles(), &[]).unwrap().len(), 6, "costs alone");
        let error = rows(&profiles(), &[summary("U-Net", 0.5)]).unwrap_err().to_string();
        assert!(error.contains("no profile of U-Net; there are those of 3D_U-Net, UNETR"), "{error}");
    }
}
