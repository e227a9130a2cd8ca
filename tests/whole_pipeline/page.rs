//! What `flare report` writes: a page that stands alone, tells everything, and looks like something in a browser.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::Lab;

/// The page of a lab.
fn page(lab: &Lab) -> String {
    lab.call(&["report", "-o", "page.html"]).must_succeed();
    fs::read_to_string(lab.path("page.html")).unwrap()
}

/// Every tag in order: its name, its attributes, and whether it opens, closes or is empty. Panics where the page is not
/// well-formed XML, apart from the first line.
fn tags(page: &str) -> Vec<(String, String)> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
    let (mut tags, mut open) = (Vec::new(), Vec::new());
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        assert!(!text.contains('>') || open.last() == Some(&"style".to_owned()), "a stray `>` in {text:?}");
        let end = start + rest[start..].find('>').expect("a tag that ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closed out of order");
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once([' ', '\n']).unwrap_or((tag, ""));
        assert_eq!(attributes.matches('"').count() % 2, 0, "an attribute without an end: {tag:.200}");
        if !empty {
            open.push(name.to_owned());
        }
        tags.push((name.to_owned(), attributes.to_owned()));
    }
    assert_eq!(open, [""; 0], "left open");
    tags
}

/// The values of an attribute.
fn values<'a>(tags: &'a [(String, String)], attribute: &str) -> Vec<&'a str> {
    let start = format!("{attribute}=\"");
    let value = |attributes: &'a str| {
        let at = attributes.find(&start).filter(|&at| at == 0 || attributes[..at].ends_with(' '))?;
        attributes[at + start.len()..].split('"').next()
    };
    tags.iter().filter_map(|(_, attributes)| value(attributes)).collect()
}

#[test]
fn a_page_stands_alone_and_tells_everything() {
    let lab = Lab::new("");
    lab.run(&[]).must_succeed();
    let page = page(&lab);
    let tags = tags(&page);

    assert!(tags.iter().all(|(name, _)| name != "script"), "it is read without scripts");
    let (sources, links) = (values(&tags, "src"), values(&tags, "href"));
    assert!(!sources.is_empty() && sources.iter().all(|source| source.starts_with("data:image/png;base64,")), "pictures are within");
    let ids: BTreeSet<&str> = values(&tags, "id").into_iter().collect();
    assert_eq!(ids.len(), values(&tags, "id").len(), "an anchor stands once");
    for link in links.iter().filter(|link| **link != "data:,") {
        assert!(link.strip_prefix('#').is_some_and(|id| ids.contains(id)), "{link} leads nowhere");
    }
    assert_eq!(page.replace("http://www.w3.org/2000/svg", "").matches("://").count(), 0, "nothing is fetched");
    assert!(page.len() < 4 << 20, "{} bytes", page.len());

    for title in ["Table 4. The final model, M_4", "Table 5. 3-D teachers", "Table 6. With and without", "Table 7. Efficiency", "Fig. 3"] {
        assert!(page.contains(title), "{title}");
    }
    assert!(page.contains("not measured") && page.contains("badge good") && page.contains("badge bad"));
    assert!(page.contains("without unlabelled data</em>"), "that the other side of Table 6 is missing is told");
    assert_eq!(page.matches("class=\"plot\"").count(), 6, "a plot for each training");
    assert_eq!(page.matches("class=\"node\"").count(), 32);
    assert_eq!(page.matches("<g class=\"ran\">").count(), 32, "the latest run did it all");
    for node in ["phantom", "M_4", "scores"] {
        let key = lab.result(node).read_link().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let record: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(lab.path(&format!("store/records/{key}.json"))).unwrap()).unwrap();
        for told in [&key, record["output"].as_str().unwrap(), record["made_by"]["executable"].as_str().unwrap()] {
            assert!(page.contains(told), "{node}: {told}");
        }
        assert!(page.contains(&format!("<td>{}</td>", record["made_by"]["version"].as_str().unwrap())));
    }
    assert_eq!(lab.run(&[]).must_succeed().ran(), [""; 0], "a look changes nothing");
    assert!(self::page(&lab).contains("0 found fresh, 32 run"), "of runs that find nothing to do no note is taken");

    lab.write_pipeline("without.yaml", "nodes: {M_2: {inputs: {init: null}}}\n");
    lab.run(&["scores", "--pipeline", "without.yaml"]).must_succeed();
    let page = self::page(&lab);
    assert!(page.contains("without unlabelled data (without, M_4)") && page.contains("with unlabelled data (lab, M_4)"));
    look_at(&lab);
}

#[test]
fn a_page_shows_the_end_of_a_failed_log_and_what_was_left() {
    let lab = Lab::with_own_data("");
    fs::write(lab.path("FLARE/validation/FLARE23Ts_0001_0000.nii.gz"), "no <scan>").unwrap();
    assert_eq!(lab.run(&["segment[M_1]"]).code, Some(1));
    let page = page(&lab);
    tags(&page);
    let failures = page.split("<section id=\"failures\">").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(failures.contains("segment[M_1]") && failures.contains("<span class=\"badge failed\">"), "{failures}");
    assert!(failures.contains("error: segment[M_1]: 1 of 2 cases failed") && failures.contains("FLARE23Ts_0001_0000.nii.gz"), "{failures}");
    assert!(page.contains("<g class=\"failed\">") && page.contains("<g class=\"missing\">"));
    assert!(page.contains("asked for segment[M_1] on"));
}

/// Opens the page of the lab in a browser, by day and by night, where there is one.
fn look_at(lab: &Lab) {
    let Some(browser) = browser() else {
        references::skipped("there is no Chromium here (apt-get install chromium): nobody has looked at the page");
        return;
    };
    let [day, night] = ["1", "0"].map(|scheme| {
        let picture = lab.path(&format!("{scheme}.png"));
        let mut command = Command::new(&browser);
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]);
        command.arg(format!("--user-data-dir={}", lab.path("browser").display()));
        command.args(["--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1200,3000"]);
        command.arg(format!("--blink-settings=preferredColorScheme={scheme}"));
        command.arg(format!("--screenshot={}", picture.display()));
        command.arg(format!("file://{}", lab.path("page.html").display()));
        let said = said(command, &lab.path("browser.log"));
        assert!(!said.contains("CONSOLE"), "the browser complains: {said}");
        assert!(picture.is_file(), "the browser has drawn nothing: {said}");
        Pixels::read(&picture)
    });
    for pixels in [&day, &night] {
        assert!(pixels.colors > 100 && pixels.drawn > 0.03, "the page is blank: {} colors, {} drawn", pixels.colors, pixels.drawn);
    }
    assert!(day.background.iter().all(|&part| part > 230) && night.background.iter().all(|&part| part < 50), "by day light, by night dark");
}

fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).flat_map(|folder| names.map(|name| folder.join(name))).find(|path| path.is_file())
}

/// What the command says until it ends.
fn said(mut command: Command, log: &Path) -> String {
    let file = File::create(log).unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the browser did not come to an end: {}", fs::read_to_string(log).unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::read_to_string(log).unwrap()
}

/// What a picture looks like.
struct Pixels {
    /// How many colors it has.
    colors: usize,
    /// Which part of it is not background.
    drawn: f64,
    /// The color of its upper left corner.
    background: [u8; 3],
}

impl Pixels {
    fn read(path: &Path) -> Self {
        let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        let samples = info.color_type.samples();
        let pixels: Vec<[u8; 3]> = bytes[..info.buffer_size()].chunks(samples).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        let background = pixels[0];
        let drawn = pixels.iter().filter(|&&pixel| pixel != background).count() as f64 / pixels.len() as f64;
        Self { colors: pixels.iter().collect::<BTreeSet<_>>().len(), drawn, background }
    }
}
