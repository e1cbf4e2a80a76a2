//! A sweep's files: rows as they come, the front's marks at the end.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use einflow_spec::{Problem, Problems};

use super::row::{Columns, Row};

/// The rows as CSV.
pub const POINTS_CSV: &str = "points.csv";
/// The rows as JSON lines.
pub const POINTS_JSON: &str = "points.jsonl";
/// The rows on the front as CSV.
pub const FRONT: &str = "front.csv";

/// Writes rows, each with one call so that a killed sweep leaves whole ones.
///
/// A folder that has rows keeps them until all of the new ones are there: those are written beside and renamed.
pub struct Writer {
    folder: PathBuf,
    /// Held, so that no other sweep writes here.
    _lock: Option<File>,
    /// What the files are called until the end.
    suffix: &'static str,
    csv: File,
    json: File,
    rows: u64,
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Problem {
    move |e| {
        Problem::nowhere(format!("cannot write {}: {e}", path.display()))
            .help("name a folder that can be written with --out")
    }
}

/// A line of CSV, with its end.
pub(super) fn line<'a>(cells: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail.
    let _ = writer.write_record(cells);
    writer.into_inner().unwrap_or_default()
}

impl Writer {
    /// Makes the files and writes the header.
    pub fn create(folder: &Path, columns: &Columns) -> Result<Self, Problems> {
        fs::create_dir_all(folder).map_err(failed(folder))?;
        // A folder that cannot be opened or locked (not every system can) is not held.
        let lock = File::open(folder).ok();
        if let Some(Err(TryLockError::WouldBlock)) = lock.as_ref().map(File::try_lock) {
            let message = format!("another sweep is writing into {}", folder.display());
            return Err(Problem::nowhere(message)
                .help("name another folder with --out")
                .into());
        }
        let old = [POINTS_CSV, POINTS_JSON]
            .iter()
            .any(|name| folder.join(name).exists());
        let suffix = if old { ".new" } else { "" };
        let create = |name: &str| {
            let path = folder.join(format!("{name}{suffix}"));
            File::create(&path).map_err(failed(&path))
        };
        let (mut csv, json) = (create(POINTS_CSV)?, create(POINTS_JSON)?);
        let header = line(columns.header.iter().map(String::as_str).chain(["front"]));
        csv.write_all(&header).map_err(failed(folder))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            _lock: lock,
            suffix,
            csv,
            json,
            rows: 0,
        })
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes a row.
    pub fn write(&mut self, row: &Row) -> Result<(), Problems> {
        self.csv.write_all(&row.csv).map_err(failed(&self.folder))?;
        self.json
            .write_all(row.json.as_bytes())
            .map_err(failed(&self.folder))?;
        self.rows += 1;
        Ok(())
    }

    /// Marks the rows on the front in both files, and writes them to a file of their own.
    pub fn finish(self, front: &BTreeSet<u64>) -> Result<(), Problems> {
        drop((self.csv, self.json));
        let in_folder = |name: &str| self.folder.join(name);
        let written = |name: &str| in_folder(&format!("{name}{}", self.suffix));
        let [marked, own_front] = ["points.csv.part", "front.csv.part"].map(in_folder);
        let failed = failed(&self.folder);
        let read = |e: csv::Error| failed(std::io::Error::other(e));
        let mut rows = csv::Reader::from_path(written(POINTS_CSV)).map_err(read)?;
        let mut all = csv::Writer::from_path(&marked).map_err(read)?;
        let mut own = csv::Writer::from_path(&own_front).map_err(read)?;
        let header = rows.headers().map_err(read)?.clone();
        all.write_record(&header).map_err(read)?;
        own.write_record(header.iter().take(header.len() - 1))
            .map_err(read)?;
        let mut record = csv::StringRecord::new();
        let mut row = 0u64;
        while rows.read_record(&mut record).map_err(read)? {
            let cells = record.len() - 1;
            let mark = if front.contains(&row) { "yes" } else { "no" };
            all.write_record(record.iter().take(cells).chain([mark]))
                .map_err(read)?;
            if front.contains(&row) {
                own.write_record(record.iter().take(cells)).map_err(read)?;
            }
            row += 1;
        }
        all.flush().and_then(|()| own.flush()).map_err(&failed)?;
        drop((all, own, rows));
        let marked_json = in_folder("points.jsonl.part");
        let lines = BufReader::new(File::open(written(POINTS_JSON)).map_err(&failed)?).lines();
        let mut all = BufWriter::new(File::create(&marked_json).map_err(&failed)?);
        for (row, text) in lines.enumerate() {
            let text = text.map_err(&failed)?;
            let open = text.strip_suffix('}').unwrap_or(&text);
            let mark = front.contains(&(row as u64));
            writeln!(all, "{open},\"front\":{mark}}}").map_err(&failed)?;
        }
        all.flush().map_err(&failed)?;
        drop(all);
        for (from, to) in [
            (marked, POINTS_CSV),
            (marked_json, POINTS_JSON),
            (own_front, FRONT),
        ] {
            fs::rename(from, in_folder(to)).map_err(&failed)?;
        }
        if !self.suffix.is_empty() {
            for name in [POINTS_CSV, POINTS_JSON] {
                fs::remove_file(written(name)).map_err(&failed)?;
            }
        }
        Ok(())
    }
}
