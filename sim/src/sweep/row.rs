//! What a point of a sweep leaves: its row, and which columns rows have.

/// What is written of each point.
pub struct Columns {
    /// The results' names.
    pub names: Vec<String>,
    /// Axes, status, results, reason.
    pub header: Vec<String>,
    /// Names of what the front is about, with their signs.
    pub objectives: Vec<(String, f64)>,
    /// What the first legal point has in the first constraint.
    pub nearest_miss: Option<String>,
}

/// What became of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has results.
    Ok,
    /// The mapping does not fit, or a file is wrong with these values.
    Illegal,
    /// Its condition did not hold before the axis ended.
    Unmet,
}

impl Status {
    /// As rows have it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Illegal => "illegal",
            Status::Unmet => "unmet",
        }
    }
}

/// A row.
pub struct Row {
    /// What became of the point.
    pub status: Status,
    /// Its line of CSV; the last cell is empty until the front is known.
    pub csv: Vec<u8>,
    /// Its line of JSON.
    pub json: String,
    /// Why it has none; empty for one with results.
    pub reason: String,
    /// Tells amounts of work apart.
    pub work: String,
    /// Less is better.
    pub objectives: Vec<f64>,
}

/// A row, or why there is none.
pub enum Verdict {
    /// A row.
    Row(Row),
    /// A constraint leaves the point out.
    Excluded,
}
