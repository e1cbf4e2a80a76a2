//! The `sweep` command: progress on standard error, rows to files or standard output.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
};

use einflow_spec::{Problem, Problems};
use indicatif::{ProgressBar, ProgressStyle};

use super::{args::Format, interrupt, output};
use crate::sweep::{FRONT, POINTS_CSV, POINTS_JSON, Summary, SweepFile, Watch, run};
use einflow_output::{
    plot::{Swept, swept},
    render,
};

/// Rows of the front that the table shows.
const MOST_SHOWN: usize = 40;

struct Bar(ProgressBar);

impl Watch for Bar {
    fn done(&self, points: u64) {
        self.0.set_position(points);
    }

    fn stop(&self) -> bool {
        interrupt::happened()
    }
}

/// Runs a sweep; the value is the exit code.
pub fn sweep(
    name: &str,
    out: Option<&Path>,
    plot: Option<&Path>,
    format: Format,
) -> Result<u8, Problems> {
    let file = SweepFile::load(name)?;
    let own;
    let folder = match out {
        Some(folder) => folder,
        None => {
            own = tempfile::tempdir()
                .map_err(|e| Problem::nowhere(format!("cannot make a temporary folder: {e}")))?;
            own.path()
        }
    };
    interrupt::remember();
    let bar = ProgressBar::new(file.points());
    if let Ok(style) =
        ProgressStyle::with_template("{pos}/{len} points {wide_bar} {rate}, {eta} left")
    {
        bar.set_style(style.with_key(
            "rate",
            |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                // A bar that cannot be written is no loss.
                let _ = write!(out, "{:.0}/s", state.per_sec());
            },
        ));
    }
    let bar = Bar(bar);
    let outcome = run(&file, folder, &bar);
    bar.0.finish_and_clear();
    let summary = match outcome {
        Ok(summary) => summary,
        Err(problems) => {
            // What was computed is shown even where it is refused.
            if out.is_none() && format != Format::Table {
                let _ = copy(&folder.join(points(format)));
            }
            return Err(problems);
        }
    };
    match format {
        Format::Table => output::print(&table(&file, &summary, folder, out)?)?,
        _ => copy(&folder.join(points(format)))?,
    }
    if let Some(plots) = plot {
        let about = Swept {
            name: &file.name,
            varying: file.varying(),
            objectives: file.front().into_iter().map(|(name, _)| name).collect(),
        };
        super::commands::draw(&swept(&about, &folder.join(POINTS_CSV))?, plots)?;
    }
    if summary.done < summary.points {
        eprintln!(
            "stopped after {} of {} points: the rows so far are whole",
            summary.done, summary.points
        );
        return Ok(interrupt::stopped());
    }
    Ok(0)
}

fn points(format: Format) -> &'static str {
    if format == Format::Json {
        POINTS_JSON
    } else {
        POINTS_CSV
    }
}

fn unread(path: &Path) -> impl Fn(std::io::Error) -> Problem {
    move |e| Problem::nowhere(format!("cannot read {}: {e}", path.display()))
}

/// Prints a file line by line.
fn copy(path: &Path) -> Result<(), Problems> {
    let file = fs::File::open(path).map_err(unread(path))?;
    let mut text = String::new();
    for line in BufReader::new(file).lines() {
        text.push_str(&line.map_err(unread(path))?);
        text.push('\n');
        if text.len() > 1 << 16 {
            output::print(&text)?;
            text.clear();
        }
    }
    output::print(&text)
}

/// What a sweep did, and its front.
fn table(
    file: &SweepFile,
    summary: &Summary,
    folder: &Path,
    out: Option<&Path>,
) -> Result<String, Problems> {
    let mut text = render::wrapped(&format!("{}: {}", file.name, file.description));
    text.push_str(&render::wrapped(&format!(
        "{} points: {} with results, {} illegal, {} where no value is enough, {} left out by `where`",
        summary.done, summary.ok, summary.illegal, summary.unmet, summary.excluded
    )));
    let path = folder.join(FRONT);
    let read = |e: csv::Error| unread(&path)(std::io::Error::other(e));
    let mut reader = csv::Reader::from_path(&path).map_err(read)?;
    let header = reader.headers().map_err(read)?.clone();
    let mut rows = Vec::new();
    for record in reader.records().take(MOST_SHOWN) {
        rows.push(record.map_err(read)?);
    }
    text.push_str(&render::wrapped(&format!(
        "front: {} rows that no other of the same work beats in {}{}",
        summary.front,
        file.front()
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
        if summary.front > MOST_SHOWN as u64 {
            format!("; the first {MOST_SHOWN}")
        } else {
            String::new()
        }
    )));
    text.push('\n');
    let headlines = file.headlines();
    let mut columns = file.varying();
    columns.extend(headlines.iter().map(String::as_str));
    text.push_str(&render::sweep_rows(&header, &rows, &columns));
    match out {
        Some(out) => text.push_str(&render::wrapped(&format!(
            "all rows: {}, {}",
            out.join(POINTS_CSV).display(),
            out.join(POINTS_JSON).display()
        ))),
        None => text.push_str("--out DIR or --format csv gives every row\n"),
    }
    Ok(text)
}
