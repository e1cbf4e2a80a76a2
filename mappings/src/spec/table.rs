use std::path::Path;

use einflow_spec::{
    FieldRow, Fields, Node, Origin, Part, Problem, Problems, Record, Source, did_you_mean, record,
};

use super::Name;
use crate::library;

/// A table of choices that a mapping makes by shape (one published row a shape).
#[derive(Clone, Debug)]
pub struct Table {
    /// The file, as the mapping names it.
    pub file: Name,
    /// Columns that must equal the sizes of the same name.
    pub keys: Vec<Name>,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// One row of a [`Table`].
#[derive(Clone, Debug)]
pub struct Row {
    cells: Vec<(String, String)>,
}

impl Row {
    /// The cell under a column.
    pub fn get(&self, column: &str) -> Option<&str> {
        self.cells
            .iter()
            .find(|(c, _)| c == column)
            .map(|(_, v)| v.as_str())
    }

    /// The columns, in the order of the file.
    pub fn columns(&self) -> impl Iterator<Item = &str> + Clone {
        self.cells.iter().map(|(c, _)| c.as_str())
    }

    /// The cell under a column, as a non-negative fraction: a decimal fraction in the table stands for the
    /// fraction of smallest denominator that rounds to the same double (0.9922480620155039 is 128/129).
    pub fn fraction(&self, column: &str) -> Option<(u64, u64)> {
        fraction_of(self.get(column)?.trim().parse().ok()?)
    }
}

/// The fraction of smallest denominator that rounds to `value`, by continued fractions.
pub(crate) fn fraction_of(value: f64) -> Option<(u64, u64)> {
    if !(0.0..1e15).contains(&value) {
        return None;
    }
    let (mut previous, mut current) = ((0u64, 1u64), (1u64, 0u64));
    let mut rest = value;
    for _ in 0..64 {
        let whole = rest.floor();
        let next = (
            (whole as u64)
                .checked_mul(current.0)?
                .checked_add(previous.0)?,
            (whole as u64)
                .checked_mul(current.1)?
                .checked_add(previous.1)?,
        );
        previous = current;
        current = next;
        if current.0 as f64 / current.1 as f64 == value {
            return Some(current);
        }
        let fraction = rest - whole;
        if fraction <= 0.0 {
            break;
        }
        rest = 1.0 / fraction;
    }
    None
}

impl Table {
    /// The same table with one row only, taken for every shape: that of a shape that `lookup` gives.
    ///
    /// # Errors
    /// As [`Table::row`].
    pub fn pinned(
        &self,
        source: &Source,
        lookup: &dyn Fn(&str) -> Option<u64>,
    ) -> Result<Self, Problem> {
        let row = self.row(source, lookup)?;
        Ok(Self {
            keys: Vec::new(),
            rows: vec![row.cells.into_iter().map(|(_, cell)| cell).collect()],
            ..self.clone()
        })
    }

    fn read(node: &Node, beside: Option<&Path>) -> Result<Self, Problems> {
        let Named { file, keys } = Named::read("", node)?;
        let (columns, rows) = load(&file.text, beside).map_err(|problem| Problem {
            place: problem.place.or(Some((node.source.clone(), file.span))),
            ..problem
        })?;
        let mut problems = Problems::new();
        for key in keys.iter().filter(|key| !columns.contains(&key.text)) {
            let message = format!("{} has no column `{}`", file.text, key.text);
            let known = columns.iter().map(String::as_str);
            let problem = Problem::at(&node.source, key.span, message);
            problems.push(problem.help(did_you_mean(&key.text, known)));
        }
        problems.into_result(Some(Table {
            file,
            keys,
            columns,
            rows,
        }))
    }

    /// The row whose keys equal the sizes that `lookup` gives.
    ///
    /// # Errors
    /// No such row: the message lists the last key's values for which there is one.
    pub fn row(
        &self,
        source: &Source,
        lookup: &dyn Fn(&str) -> Option<u64>,
    ) -> Result<Row, Problem> {
        let index = |key: &Name| self.columns.iter().position(|c| *c == key.text);
        let wanted: Vec<(usize, &Name, Option<u64>)> = self
            .keys
            .iter()
            .filter_map(|key| Some((index(key)?, key, lookup(&key.text))))
            .collect();
        let matches = |row: &Vec<String>, (i, _, value): &(usize, &Name, Option<u64>)| {
            row[*i]
                .trim()
                .parse::<u64>()
                .ok()
                .is_some_and(|cell| Some(cell) == *value)
        };
        if let Some(row) = self
            .rows
            .iter()
            .find(|row| wanted.iter().all(|w| matches(row, w)))
        {
            let cells = self
                .columns
                .iter()
                .cloned()
                .zip(row.iter().cloned())
                .collect();
            return Ok(Row { cells });
        }
        let found: Vec<String> = wanted
            .iter()
            .map(|(_, key, value)| {
                format!(
                    "{} = {}",
                    key.text,
                    value.map_or("?".into(), |v| v.to_string())
                )
            })
            .collect();
        // Where only some keys fail, say what those may be.
        let mut help = String::new();
        for w in &wanted {
            let others = |row: &&Vec<String>| {
                wanted
                    .iter()
                    .all(|o| o.1 == w.1 || o.2 == w.2 || matches(row, o))
            };
            let mut values: Vec<u64> = self
                .rows
                .iter()
                .filter(others)
                .filter_map(|row| row[w.0].trim().parse().ok())
                .collect();
            values.sort_unstable();
            values.dedup();
            if !values.is_empty() && !w.2.is_some_and(|v| values.contains(&v)) {
                let list: Vec<String> = values.iter().map(u64::to_string).collect();
                help = format!("{} may be {}", w.1.text, list.join(", "));
            }
        }
        Err(Problem::at(
            source,
            self.file.span,
            format!("{} has no row with {}", self.file.text, found.join(", ")),
        )
        .help(help))
    }
}

record! {
    /// How a mapping names a table.
    pub(super) struct Named = "a table" {
        /// The file.
        pub file: Name;
        /// Columns that must equal the sizes of the same name.
        pub keys: Vec<Name>;
    }
}

/// `(file: "choices.csv", keys: ["E", "M"])` and the file, beside the mapping or embedded.
impl Part<Option<Table>> for Table {
    fn take(fields: &mut Fields<'_>) -> Option<Option<Table>> {
        let folder = fields.folder();
        Some(fields.get_all("table", |node| Table::read(node, folder)))
    }

    fn fields() -> Vec<FieldRow> {
        Tabled::fields()
    }
}

record! {
    /// The field of a mapping that names its table.
    struct Tabled = "a mapping" {
        /// A CSV file of choices by shape, one row a shape, see below.
        pub table: Option<Named> => "none";
    }
}

type Cells = (Vec<String>, Vec<Vec<String>>);

fn load(file: &str, beside: Option<&Path>) -> Result<Cells, Problem> {
    // A copy of a shipped mapping still finds the table that ships with it.
    let (source, _origin): (Source, Origin) =
        library::tables().find(file, beside).or_else(|problem| {
            let shipped = library::tables().get(file.strip_suffix(".csv").unwrap_or(file));
            shipped.map(|s| (s, Origin::Embedded)).ok_or(problem)
        })?;
    let mut reader = csv::Reader::from_reader(source.text().as_bytes());
    let bad = |e: csv::Error| {
        let line = e
            .position()
            .map_or(String::new(), |p| format!(", row {}", p.line()));
        Problem::nowhere(format!("{}{line}: {e}", source.name()))
    };
    let columns = reader
        .headers()
        .map_err(bad)?
        .iter()
        .map(|c| c.trim().to_string())
        .collect();
    let rows = reader
        .records()
        .map(|record| {
            record
                .map(|r| r.iter().map(str::to_string).collect())
                .map_err(bad)
        })
        .collect::<Result<_, _>>()?;
    Ok((columns, rows))
}

#[cfg(test)]
mod tests {
    use super::fraction_of;

    #[test]
    fn decimal_shares_are_small_fractions() {
        // 32 MiB of 32 MiB + 256 KiB; 32 of 34.375; and the exact ends.
        assert_eq!(fraction_of(0.9922480620155039), Some((128, 129)));
        assert_eq!(fraction_of(0.9309090909090909), Some((256, 275)));
        assert_eq!(fraction_of(1.0), Some((1, 1)));
        assert_eq!(fraction_of(0.0), Some((0, 1)));
        assert_eq!(fraction_of(-0.5), None);
    }
}
