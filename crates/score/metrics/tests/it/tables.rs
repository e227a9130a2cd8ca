//! Summaries and the text made of them.

use labels::{Classes, flare23};
use metrics::table::{Table, cases_to_csv};
use metrics::{CaseScores, ClassScore, MetricsError, Note, Protocol, Scored, Scoring, Stat, Summary};
use serde_json::json;

/// Scores that are the same for all classes of FLARE23.
fn case(protocol: Protocol, dsc: f64, nsd: f64) -> CaseScores {
    case_of(&flare23::classes(), protocol, dsc, nsd)
}

fn case_of(classes: &Classes, protocol: Protocol, dsc: f64, nsd: f64) -> CaseScores {
    let scoring = Scoring::of(classes);
    let score = |Scored { class, .. }: &Scored| {
        let class = class.clone();
        ClassScore { class, dsc: Some(dsc), nsd: Some(nsd), hd_mm: None, hd95_mm: Some(1.5), note: None }
    };
    CaseScores { protocol, classes: scoring.classes().iter().map(score).collect() }
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
    assert_eq!(summary.class("gallbladder").expect("an organ").dsc.n, 1);
    let organs = summary.group("organ").expect("a group").scores;
    let mean = organs.dsc.mean.expect("defined");
    assert!((mean - (12.0 * 0.8 + 0.7) / 13.0).abs() < 1e-12);
    let all = summary.average.dsc.mean.expect("defined");
    assert!((all - (12.0 * 0.8 + 0.7 + 0.45) / 14.0).abs() < 1e-12);
    // The organs of the first case average 0.9, those of the second 0.7.
    let sd = organs.dsc.sd.expect("two cases");
    assert!((sd - 0.2 / 2f64.sqrt()).abs() < 1e-12);
    assert_eq!(summary.average.hd_mm.n, 0);
    let tumor = summary.group("cancer").expect("a group");
    assert_eq!((tumor.group.heading.as_str(), tumor.scores), ("tumor", *summary.class("tumor").expect("a class")));
}

#[test]
fn a_summary_survives_json() {
    let summary = Summary::of("ours", &two_cases()).expect("one protocol");
    let json = serde_json::to_string(&summary).expect("json");
    let back = serde_json::from_str::<Summary>(&json).expect("back");
    assert_eq!((&back.model, back.scored(), &back.groups[0].group), (&summary.model, summary.scored(), &summary.groups[0].group));
    let json: serde_json::Value = serde_json::from_str(&json).expect("json");
    assert_eq!(json["classes"][1]["label"], 2);
    assert_eq!(json["classes"][1]["name"], "Right kidney");
    let [group, heading, classes] = ["group", "heading", "classes"].map(|field| &json["groups"][0][field]);
    assert_eq!((group, heading, classes), (&json!("organ"), &json!("organs"), &json!(13)));
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
    let fewer = flare23::classes().only([1, 14].into_iter().collect());
    let fewer = [("few".to_owned(), case_of(&fewer, Protocol::Official, 0.5, 0.5))];
    let error = Table::of(&[&two_cases()[..], &fewer].map(|cases| Summary::of("m", cases).expect("alike"))).expect_err("mixed");
    assert!(error.to_string().starts_with("model m was scored on liver, tumor, those before on liver, right_kidney, "), "{error}");
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

#[test]
fn every_group_of_several_classes_has_a_row_of_its_own_unless_it_is_all_there_is() {
    let rows = |classes: serde_json::Value| -> Vec<String> {
        let classes: Classes = serde_json::from_value(classes).expect("classes");
        let summary = Summary::of("m", &[("a".to_owned(), case_of(&classes, Protocol::Plain, 0.5, 0.5))]).expect("one case");
        Table::of(&[summary]).expect("one protocol").rows.into_iter().map(|row| row.target).collect()
    };
    let three = json!([
        {"group": "organ", "classes": {"liver": 60, "left_kidney": 3}},
        {"group": "vessel", "classes": {"portal_vein": 200, "hepatic_vein": {"value": 17, "name": "Hepatic veins"}}},
        {"group": "cancer", "classes": {"tumor": 14}}
    ]);
    let expected =
        ["Left kidney", "Liver", "Hepatic veins", "Portal vein", "Tumor", "Average", "Average of the 2 organs", "Average of the 2 vessels"];
    assert_eq!(rows(three), expected);
    assert_eq!(rows(json!([{"group": "cancer", "classes": {"tumor": 1}}])), ["Tumor", "Average"]);
    assert_eq!(rows(json!([{"group": "organ", "classes": {"liver": 1, "spleen": 2}}])), ["Liver", "Spleen", "Average"]);
}
