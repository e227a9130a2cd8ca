//! The figures in the layout of the paper's Table 7, and curves.

use std::fmt::Write as _;

use plots::{Look, Panel, Series};
use tables::{number, to_csv};

use crate::figures::{CaseFigures, Curve, Ended, Figures};
use crate::meter::{Run, Sample};

/// A kind of memory, for the columns of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Of the graphics card.
    Gpu,
    /// Of the processes.
    Ram,
}

impl Memory {
    /// As the columns call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpu => "GPU",
            Self::Ram => "RAM",
        }
    }

    /// What a case took of it.
    #[must_use]
    pub fn of(self, case: &CaseFigures) -> Option<Curve> {
        match self {
            Self::Gpu => case.gpu,
            Self::Ram => Some(case.ram),
        }
    }
}

impl Figures {
    /// The kinds of memory that were measured, the paper's first.
    #[must_use]
    pub fn memories(&self) -> Vec<Memory> {
        if self.cases.iter().any(|case| case.gpu.is_some()) { vec![Memory::Gpu, Memory::Ram] } else { vec![Memory::Ram] }
    }

    /// The headings of Table 7, and of a column that tells what came of a case if anything did go wrong.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        let mut heads = ["Case ID", "Image size", "Running time (s)"].map(str::to_owned).to_vec();
        heads.extend(self.memories().into_iter().flat_map(|kind| ["Max", "Total"].map(|word| format!("{word} {} (MB)", kind.name()))));
        heads.extend(self.any_trouble().then(|| "Result".to_owned()));
        heads
    }

    /// The row of a case.
    #[must_use]
    pub fn row(&self, case: &CaseFigures) -> Vec<String> {
        let size = case.size.map_or_else(|| "–".to_owned(), |[x, y, z]| format!("({x}, {y}, {z})"));
        let mut row = vec![case.case.clone(), size, format!("{:.2}", case.seconds)];
        for kind in self.memories() {
            let curve = kind.of(case);
            let shown = |value: fn(Curve) -> f64| curve.map_or_else(|| "–".to_owned(), |curve| format!("{:.0}", value(curve)));
            row.extend([shown(|curve| curve.max_mb), shown(|curve| curve.area_mb_s)]);
        }
        row.extend(self.any_trouble().then(|| case.ended.words().to_owned()));
        row
    }

    fn any_trouble(&self) -> bool {
        self.cases.iter().any(|case| case.ended != Ended::Labelled)
    }

    /// The means over all cases in place of a case's figures, the largest of all maxima.
    fn summary(&self) -> Vec<String> {
        let mean = |value: &dyn Fn(&CaseFigures) -> f64| self.cases.iter().map(value).sum::<f64>() / self.cases.len() as f64;
        let mut row = vec!["mean (of maxima the largest)".to_owned(), String::new(), format!("{:.2}", mean(&|case| case.seconds))];
        for kind in self.memories() {
            let largest = self.cases.iter().filter_map(|case| kind.of(case)).map(|curve| curve.max_mb).fold(0.0, f64::max);
            row.push(format!("{largest:.0}"));
            row.push(format!("{:.0}", mean(&|case| kind.of(case).map_or(0.0, |curve| curve.area_mb_s))));
        }
        row.extend(self.any_trouble().then(String::new));
        row
    }

    /// Table 7 in Markdown, with what was measured and where.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let heads = self.heads();
        let mut page = format!("# Table 7. Efficiency\n\n{}\n{}\n{}\n\n", self.measured, self.machine, self.gpu);
        page += &line(&heads);
        let rule = |at: usize| if at < 2 { "---".to_owned() } else { "---:".to_owned() };
        page += &line(&(0..heads.len()).map(rule).collect::<Vec<_>>());
        self.cases.iter().for_each(|case| page += &line(&self.row(case)));
        if self.cases.len() > 1 {
            page += &line(&self.summary());
        }
        page += "\nTotal is the area under the curve of memory over time in MB·s, from samples every 0.1 s; an MB has 2^20 bytes.\n";
        let troubles: Vec<&CaseFigures> = self.cases.iter().filter(|case| case.ended != Ended::Labelled).collect();
        if !troubles.is_empty() {
            page += "Cases that came to nothing have the challenge's penalties in place of time and area:\n\n";
            for case in troubles {
                let reason = case.reason.as_deref().unwrap_or("").replace('\n', " ");
                let _ = writeln!(page, "- {}, {} after {:.2} s: {reason}", case.case, case.ended.words(), case.measured_seconds);
            }
        }
        page
    }

    /// Every figure as CSV.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let heads = "case,x,y,z,result,seconds,measured_seconds,max_ram_mb,total_ram_mb_s,max_gpu_mb,total_gpu_mb_s";
        let row = |case: &CaseFigures| {
            let mut row = vec![case.case.clone()];
            row.extend(case.size.map_or_else(Default::default, |size| size.map(|n| n.to_string())));
            row.extend([case.ended.words().to_owned(), format!("{:.3}", case.seconds), format!("{:.3}", case.measured_seconds)]);
            for curve in [Some(case.ram), case.gpu] {
                row.extend([number(curve.map(|curve| curve.max_mb), 1), number(curve.map(|curve| curve.area_mb_s), 0)]);
            }
            row
        };
        to_csv(std::iter::once(heads.split(',').map(str::to_owned).collect()).chain(self.cases.iter().map(row)))
    }
}

/// Every sample of a run.
#[must_use]
pub fn samples_csv(run: &Run) -> String {
    let heads = ["seconds", "ram_mb", "gpu_mb"].map(str::to_owned);
    let row = |sample: &Sample| [format!("{:.3}", sample.seconds), format!("{:.1}", sample.ram_mb), number(sample.gpu_mb, 1)];
    to_csv(std::iter::once(heads).chain(run.samples.iter().map(row)))
}

/// The curve of a run as a drawing.
#[must_use]
pub fn curve_svg(case: &str, run: &Run) -> String {
    let line = |name: &str, look, points: Vec<(f64, f64)>| Series { name: name.into(), look, points };
    let ram = run.samples.iter().map(|sample| (sample.seconds, sample.ram_mb)).collect();
    let gpu: Vec<(f64, f64)> = run.samples.iter().filter_map(|sample| Some((sample.seconds, sample.gpu_mb?))).collect();
    let mut series = vec![line("RAM", Look::First, ram)];
    if !gpu.is_empty() {
        series.push(line("GPU", Look::Second, gpu));
    }
    plots::svg(case, "seconds", &[Panel { y_label: "memory (MB)".into(), series }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, slices: usize, ended: Ended, gpu: Option<f64>) -> CaseFigures {
        let curve = |max_mb| Curve { max_mb, area_mb_s: 10.0 * max_mb };
        CaseFigures {
            case: name.into(),
            size: Some([512, 512, slices]),
            ended,
            reason: (ended != Ended::Labelled).then(|| "no label map\nat all".into()),
            seconds: 33.822,
            measured_seconds: 33.822,
            ram: curve(300.4),
            gpu: gpu.map(curve),
        }
    }

    fn figures(cases: Vec<CaseFigures>) -> Figures {
        Figures { measured: "a program".into(), machine: "2 cores".into(), gpu: "no GPU".into(), cases }
    }

    #[test]
    fn with_a_card_the_table_is_the_papers_and_ram_stands_beside_it() {
        let page = figures(vec![case("0063", 448, Ended::Labelled, Some(8796.0)), case("0048", 499, Ended::Labelled, Some(9492.0))]);
        let page = page.to_markdown();
        assert!(
            page.contains("| Case ID | Image size | Running time (s) | Max GPU (MB) | Total GPU (MB) | Max RAM (MB) | Total RAM (MB) |")
        );
        assert!(page.contains("| 0063 | (512, 512, 448) | 33.82 | 8796 | 87960 | 300 | 3004 |"), "{page}");
        assert!(page.contains("| mean (of maxima the largest) |  | 33.82 | 9492 | 91440 | 300 | 3004 |"), "{page}");
    }

    #[test]
    fn without_a_card_ram_alone_and_a_failed_case_with_its_reason() {
        let figures = figures(vec![case("a,b", 5, Ended::Failed, None)]);
        let page = figures.to_markdown();
        assert!(page.contains("| Case ID | Image size | Running time (s) | Max RAM (MB) | Total RAM (MB) | Result |"), "{page}");
        assert!(page.contains("- a,b, failed after 33.82 s: no label map at all") && !page.contains("Max GPU"), "{page}");
        let csv = figures.to_csv();
        assert!(csv.ends_with("\n\"a,b\",512,512,5,failed,33.822,33.822,300.4,3004,,\n"), "{csv}");
        assert_eq!(serde_json::from_str::<Figures>(&serde_json::to_string(&figures).unwrap()).unwrap(), figures);
    }
}
