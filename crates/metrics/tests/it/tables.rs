//! Summaries and the text made of them.

use metrics::table::{Table, cases_to_csv};
use metrics::{CaseScores, ClassScore, MetricsError, Note, Protocol, Stat, Summary};

/// Scores that are the same for all classes.
fn case(protocol: Protocol, dsc: f64, nsd: f64) -> CaseScores {
    let classes = (1..=14).map(|label| ClassScore { label, dsc: Some(dsc), nsd: Some(nsd), hd_mm: None, hd95_mm: Some(1.5), note: None });
    CaseScores { protocol, classes: classes.collect() }
}

fn two_cases() -> Vec<(String, CaseScores)> {
    let mut first = case(Protocol::Official, 0.9, 0.8);
    first.classes[13].dsc = Some(0.2);
    first.classes[8].dsc = None;
    first.classes[8].nsd = None;
    first.classes[8].note = Some(Note::TruthOnOneSlice);
    let second = case(Protocol::Official, 0.7, 0.8);
    vec![("a".to_owned(), first), ("b,c".to_owned(), second)]
}

#[test]
fn mean_and_sample_deviation_are_over_the_cases_that_have_a_score() {
    assert_eq!(Stat::of(&[]), Stat { mean: None, sd: None, n: 0 });
    assert_eq!(Stat::of(&[0.5]).sd, None);
    let stat = Stat::of(&[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(stat.mean, Some(2.5));
    assert!((stat.sd.expect("four values") - (5.0f64 / 3.0).sqrt()).abs() < 1e-15);
}

#[test]
fn averages_weigh_classes_alike_and_keep_tumor_apart() {
    let summary = Summary::of("ours", &two_cases()).expect("one protocol");
    assert_eq!(summary.class(9).expect("gallbladder").dsc.n, 1);
    let organs = summary.organs.dsc.mean.expect("defined");
    assert!((organs - (12.0 * 0.8 + 0.7) / 13.0).abs() < 1e-12);
    let all = summary.average.dsc.mean.expect("defined");
    assert!((all - (12.0 * 0.8 + 0.7 + 0.45) / 14.0).abs() < 1e-12);
    // The organs of the first case average 0.9, those of the second 0.7.
    let sd = summary.organs.dsc.sd.expect("two cases");
    assert!((sd - 0.2 / 2f64.sqrt()).abs() < 1e-12);
    assert_eq!(summary.average.hd_mm.n, 0);
}

#[test]
fn a_summary_survives_json() {
    let summary = Summary::of("ours", &two_cases()).expect("one protocol");
    let json = serde_json::to_string(&summary).expect("json");
    assert_eq!(serde_json::from_str::<Summary>(&json).expect("back").model, "ours");
    let table = Table::of(&[summary]).expect("one protocol");
    let json = serde_json::to_string(&table).expect("json");
    assert_eq!(serde_json::from_str::<Table>(&json).expect("back").rows.len(), 16);
}

#[test]
fn scores_of_both_protocols_are_not_mixed() {
    let mut cases = two_cases();
    let plain = case(Protocol::Plain, 0.5, 0.5);
    let plain_summary = Summary::of("p", &[("p".to_owned(), plain.clone())]).expect("one case");
    let official_summary = Summary::of("o", &cases).expect("one protocol");
    assert!(Table::of(&[official_summary, plain_summary]).is_err());
    cases.push(("odd".to_owned(), plain));
    let error = Summary::of("ours", &cases).expect_err("mixed");
    assert!(error.to_string().starts_with("case odd was scored by the plain protocol"));
    assert_eq!(Summary::of("ours", &[]), Err(MetricsError::NoCases));
    assert_eq!(Table::of(&[]), Err(MetricsError::NoCases));
}

#[test]
fn the_markdown_table_has_the_papers_rows_and_a_pair_of_columns_per_model() {
    let ours = Summary::of("ours", &two_cases()).expect("one protocol");
    let one = [("x".to_owned(), case(Protocol::Official, 0.5, 0.25))];
    let single = Summary::of("a|b", &one).expect("one case");
    let markdown = Table::of(&[ours, single]).expect("one protocol").to_markdown();
    let lines: Vec<&str> = markdown.lines().collect();
    let expected = [
        (0, "| Target | ours DSC(%) | ours NSD(%) | a\\|b DSC(%) | a\\|b NSD(%) |"),
        (1, "|---|---:|---:|---:|---:|"),
        (2, "| Liver | 80.00 ± 14.14 | 80.00 ± 0.00 | 50.00 | 25.00 |"),
        (10, "| Gallbladder | 70.00 | 80.00 | 50.00 | 25.00 |"),
        (15, "| Tumor | 45.00 ± 35.36 | 80.00 ± 0.00 | 50.00 | 25.00 |"),
        (16, "| Average | 76.79 ± 10.33 | 80.00 ± 0.00 | 50.00 | 25.00 |"),
        (17, "| Average of the 13 organs | 79.23 ± 14.14 | 80.00 ± 0.00 | 50.00 | 25.00 |"),
        (19, "Mean ± standard deviation over cases (ours 2, a|b 1), official protocol."),
        (20, "Gallbladder, ours: defined in 1 of 2 cases."),
    ];
    for (number, line) in expected {
        assert_eq!(lines[number], line);
    }
    assert_eq!(lines.len(), 21);
}

#[test]
fn the_csv_table_keeps_means_and_deviations_apart() {
    let ours = Summary::of("ours, new", &two_cases()).expect("one protocol");
    let csv = Table::of(&[ours]).expect("one protocol").to_csv();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "target,\"ours, new DSC(%)\",\"ours, new DSC sd\",\"ours, new NSD(%)\",\"ours, new NSD sd\",\"ours, new n\"");
    assert_eq!(lines[1], "Liver,80.00,14.14,80.00,0.00,2");
    assert_eq!(lines[9], "Gallbladder,70.00,,80.00,,1");
    assert_eq!(lines.len(), 17);
}

#[test]
fn the_case_list_has_a_line_per_case_and_class() {
    let csv = cases_to_csv(&two_cases());
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "case,class,dsc,nsd,hd_mm,hd95_mm,note");
    assert_eq!(lines[1], "a,liver,0.9000,0.8000,,1.5000,");
    assert_eq!(lines[9], "a,gallbladder,,,,1.5000,truth_on_one_slice");
    assert_eq!(lines[15], "\"b,c\",liver,0.7000,0.8000,,1.5000,");
    assert_eq!(lines.len(), 29);
}
