//! The same as pictures: for each case a panel of horizontal bars, one group a test, with whiskers from the
//! least to the most. The panel has a ground of its own, so that it can be read on light and dark pages.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use crate::report::{number, title};
use crate::results::{Results, Spread};
use crate::rows::{CASES, Goal, ROWS, Row};

const WIDTH: f64 = 760.0;
/// Where bars begin and end.
const BARS: (f64, f64) = (210.0, 600.0);
const BAR: f64 = 16.0;
const STEP: f64 = 21.0;

/// Ours stands out; the others have a colour each.
fn colour(column: &str) -> &'static str {
    match column {
        "ours" => "#c2410c",
        "valkey" => "#6d83b3",
        "valkey-alone" => "#a3b1d0",
        "redis" => "#b58a8a",
        "postgres" => "#5f8f93",
        "etcd" => "#8b7fb0",
        _ => "#8a8f98",
    }
}

/// Writes a picture of each case that has been measured.
pub(crate) fn write(results: &Results, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for (case, about) in CASES {
        if let Some(text) = draw(results, case, about) {
            std::fs::write(folder.join(format!("{case}.svg")), text)?;
        }
    }
    Ok(())
}

/// Tests of a case, with their units, in their order.
fn tests(case: &str) -> Vec<(&'static str, &'static str)> {
    let mut tests = Vec::new();
    for row in ROWS.iter().filter(|row| row.case == case) {
        if !tests.contains(&(row.test, row.unit)) {
            tests.push((row.test, row.unit));
        }
    }
    tests
}

fn less_is_better(test: &str) -> bool {
    let bounded = |row: &Row| row.test == test && matches!(row.goal, Goal::AtMost(_));
    ROWS.iter().any(bounded)
}

/// What was measured of a test: ours, then the peers in their order.
fn bars(results: &Results, test: &str) -> Vec<(&'static str, Spread)> {
    let peers = ROWS
        .iter()
        .filter(|row| row.test == test && !row.peer.is_empty());
    let columns = std::iter::once("ours").chain(peers.map(|row| row.peer));
    columns
        .filter_map(|column| Some((column, results.of(test, column)?)))
        .collect()
}

fn draw(results: &Results, case: &str, about: &str) -> Option<String> {
    let mut body = String::new();
    let mut y = 62.0;
    for (test, unit) in tests(case) {
        let bars = bars(results, test);
        if bars.is_empty() {
            continue;
        }
        let unit = if unit == "x" {
            String::new()
        } else {
            format!(" ({unit})")
        };
        let less = if less_is_better(test) {
            ", less is better"
        } else {
            ""
        };
        text(&mut body, "test", 16.0, y, &format!("{test}{unit}{less}"));
        y += 9.0;
        let most = bars
            .iter()
            .map(|(_, spread)| spread.most)
            .fold(f64::MIN_POSITIVE, f64::max);
        for (column, spread) in bars {
            bar(&mut body, y, &title(results, column), column, spread, most);
            y += STEP;
        }
        y += 22.0;
    }
    if body.is_empty() {
        return None;
    }
    let height = y - 4.0;
    let mut all = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <style>text{{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#24292f}}\
         .head{{font-size:16px;font-weight:600}}.test{{font-weight:600}}.value{{font-variant-numeric:tabular-nums}}</style>\n\
         <rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\" fill=\"#fbfbfa\" stroke=\"#d0d7de\"/>\n",
        WIDTH - 1.0,
        height - 1.0
    );
    text(&mut all, "head", 16.0, 30.0, about);
    all += &body;
    all += "</svg>\n";
    Some(all)
}

/// Writing into a string cannot fail.
fn text(out: &mut String, class: &str, x: f64, y: f64, what: &str) {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{what}</text>"
    );
}

fn bar(out: &mut String, y: f64, name: &str, column: &str, spread: Spread, most: f64) {
    let scale = |value: f64| BARS.0 + (BARS.1 - BARS.0) * value.max(0.0) / most;
    text(out, "name", 28.0, y + 12.5, name);
    let colour = colour(column);
    let width = (scale(spread.median) - BARS.0).max(1.0);
    let _ = writeln!(
        out,
        "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{colour}\"/>",
        BARS.0
    );
    let (from, to, middle) = (scale(spread.least), scale(spread.most), y + BAR / 2.0);
    let _ = writeln!(
        out,
        "<path d=\"M{from:.1} {middle:.1}H{to:.1}M{from:.1} {:.1}v6M{to:.1} {:.1}v6\" stroke=\"#24292f\" fill=\"none\"/>",
        middle - 3.0,
        middle - 3.0
    );
    text(out, "value", to + 8.0, y + 12.5, &number(spread.median));
}
