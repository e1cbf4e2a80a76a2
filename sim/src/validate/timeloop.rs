//! Loop nests held against Timeloop's counts, case by case.

mod fields;

use std::fmt;

use einflow_arch::Counting;
use einflow_mappings::nest::{
    Factor, Level, LevelError, LevelNest, LevelTensor, LevelTotals, count_levels,
};
use einflow_spec::{Problem, Problems, Source, Span};
use rayon::prelude::*;
use serde_json::Value as Json;

use fields::{Field, Mistake};

/// One case, every value of it compared.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseResult {
    /// The case's name.
    pub id: String,
    /// Its line in the file, from one.
    pub line: usize,
    /// Every value that the case gives, in order of level and tensor.
    pub values: Vec<Compared>,
}

/// One value of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The storage level, or `MAC` for the multipliers; none for the whole nest.
    pub level: Option<String>,
    /// The tensor; none for the whole level.
    pub tensor: Option<String>,
    /// `reads`, `fills`, `updates`, `utilized_instances`, `cycles`, `macs` or `utilization`.
    pub what: &'static str,
    /// What the case says.
    pub expected: Quantity,
    /// What was counted.
    pub found: Quantity,
}

/// An exact count, or a ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    /// A whole number.
    Count(u128),
    /// A fraction.
    Ratio(f64),
}

impl Quantity {
    /// As a floating-point number.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Count(count) => count as f64,
            Self::Ratio(ratio) => ratio,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Ratio(ratio) => ratio.fmt(f),
        }
    }
}

impl CaseResult {
    /// The values that differ.
    pub fn mismatches(&self) -> impl Iterator<Item = &Compared> {
        self.values.iter().filter(|value| !value.equal())
    }
}

impl Compared {
    /// Whether the two are equal: counts exactly, ratios but for the last digit of a quotient.
    pub fn equal(&self) -> bool {
        match (self.expected, self.found) {
            (Quantity::Ratio(a), Quantity::Ratio(b)) => (a - b).abs() <= f64::EPSILON * a.abs(),
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in [&self.level, &self.tensor].into_iter().flatten() {
            write!(f, "{name} ")?;
        }
        write!(
            f,
            "{}: expected {}, found {}",
            self.what, self.expected, self.found
        )
    }
}

/// Counts every case of a file (one JSON object a line; see the README beside the embedded one)
/// under Timeloop's rule, and compares what it gives: `exact` where that differs from `timeloop`.
///
/// `name` is the file's name in messages. Results are in the order of the lines.
///
/// # Errors
/// Every line that is not a case, naming the line and the field.
pub fn check_cases(name: &str, text: &str) -> Result<Vec<CaseResult>, Problems> {
    let source = Source::new(name, text);
    let mut start = 0;
    let mut lines = Vec::new();
    for (i, line) in text.split_inclusive('\n').enumerate() {
        if !line.trim().is_empty() {
            lines.push((i + 1, start, line.trim_end()));
        }
        start += line.len();
    }
    let results: Vec<_> = lines
        .into_par_iter()
        .map(|(number, start, line)| {
            check_line(number, line).map_err(|found| (start, line.len(), found))
        })
        .collect();
    let mut problems = Problems::new();
    let mut cases = Vec::with_capacity(results.len());
    for result in results {
        match result {
            Ok(case) => cases.push(case),
            Err((start, len, found)) => {
                for Mistake { at, message, help } in found {
                    let at = start + at.min(len);
                    problems
                        .push(Problem::at(&source, Span::new(at, start + len), message).help(help));
                }
            }
        }
    }
    if cases.is_empty() && problems.is_empty() {
        problems.push(
            Problem::at(&source, Span::default(), "there is no case in this file")
                .help("one JSON object a line"),
        );
    }
    problems.into_result(Some(cases))
}

/// The names of a case.
struct Names<'a> {
    ranks: Vec<&'a str>,
    tensors: Vec<&'a str>,
    levels: Vec<&'a str>,
}

fn check_line(number: usize, line: &str) -> Result<CaseResult, Vec<Mistake>> {
    let json: Json = serde_json::from_str(line).map_err(|error| {
        let at = error.column().saturating_sub(1);
        let error = error.to_string();
        // Line and column are the problem's own.
        let error = error.split(" at line ").next().unwrap_or_default();
        vec![Mistake {
            at,
            message: format!("this line is not JSON: {error}"),
            help: "one object a line".into(),
        }]
    })?;
    let root = Field::root(&json);
    let mut mistakes = Vec::new();
    let read = nest(&root, &mut mistakes);
    let id = match root.need("id").and_then(|id| id.text()) {
        Ok(id) => id.to_string(),
        Err(mistake) => {
            mistakes.push(mistake);
            String::new()
        }
    };
    let Some((nest, names)) = read else {
        return Err(mistakes);
    };
    let totals = count_levels(&nest, Counting::Timeloop).map_err(|error| {
        vec![Mistake::new(
            format!(
                "the nest of {id} cannot be counted: {}",
                explain(&error, &names)
            ),
            "",
        )]
    });
    let mut values = Vec::new();
    match totals {
        Err(found) => mistakes.extend(found),
        Ok(totals) => {
            for part in [counts, instances, whole] {
                if let Err(mistake) = part(&root, &names, &totals, &mut values) {
                    mistakes.push(mistake);
                }
            }
        }
    }
    if mistakes.is_empty() {
        Ok(CaseResult {
            id,
            line: number,
            values,
        })
    } else {
        Err(mistakes)
    }
}

fn explain(error: &LevelError, names: &Names<'_>) -> String {
    let rank = |r: usize| names.ranks.get(r).copied().unwrap_or("?");
    let tensor = |t: usize| names.tensors.get(t).copied().unwrap_or("?");
    match *error {
        LevelError::Factors {
            rank: r,
            product,
            size,
        } => {
            format!(
                "the factors of {} multiply to {product}, its size is {size}",
                rank(r)
            )
        }
        LevelError::NotKept { tensor: t } => {
            format!("the outermost level does not keep {}", tensor(t))
        }
        LevelError::Dimension { tensor: t, rank: r } => {
            format!(
                "{} must stand once in {}, and alone in a dimension of a result",
                rank(r),
                tensor(t)
            )
        }
        ref other => other.to_string(),
    }
}

/// Reads the nest; mistakes in one part do not hide those in another.
fn nest<'j>(root: &Field<'j, '_>, mistakes: &mut Vec<Mistake>) -> Option<(LevelNest, Names<'j>)> {
    let mut nest = LevelNest::default();
    let mut names = Names {
        ranks: Vec::new(),
        tensors: Vec::new(),
        levels: Vec::new(),
    };
    let parts = [sizes, tensors, levels];
    let mut complete = true;
    for part in parts {
        if let Err(mistake) = part(root, &mut nest, &mut names) {
            mistakes.push(mistake);
            complete = false;
        }
    }
    complete.then_some((nest, names))
}

fn sizes<'j>(
    root: &Field<'j, '_>,
    nest: &mut LevelNest,
    names: &mut Names<'j>,
) -> Result<(), Mistake> {
    let field = root.need("sizes")?;
    for (name, size) in field.object()? {
        nest.sizes.push(field.child(name, size).factor()?);
        names.ranks.push(name);
    }
    Ok(())
}

fn tensors<'j>(
    root: &Field<'j, '_>,
    nest: &mut LevelNest,
    names: &mut Names<'j>,
) -> Result<(), Mistake> {
    let field = root.need("tensors")?;
    for (name, json) in field.object()? {
        let tensor = field.child(name, json);
        let mut dims = Vec::new();
        for dim in tensor.need("dims")?.list()? {
            dims.push(
                dim.list()?
                    .map(|rank| rank.one_of("rank", &names.ranks))
                    .collect::<Result<_, _>>()?,
            );
        }
        nest.tensors.push(LevelTensor {
            dims,
            output: tensor.need("output")?.flag()?,
        });
        names.tensors.push(name);
    }
    Ok(())
}

fn levels<'j>(
    root: &Field<'j, '_>,
    nest: &mut LevelNest,
    names: &mut Names<'j>,
) -> Result<(), Mistake> {
    let field = root.need("levels")?;
    let items = field
        .json
        .as_array()
        .ok_or_else(|| field.expected("a list is expected"))?;
    for (i, json) in items.iter().enumerate() {
        let level = field.item(i, json);
        let mut keep = Vec::new();
        for tensor in level.need("keep")?.list()? {
            keep.push(tensor.one_of("tensor", &names.tensors)?);
        }
        nest.levels.push(Level {
            keep,
            temporal: factors(&level.need("temporal")?, &names.ranks, 2, "[rank, factor]")?,
            spatial: factors(
                &level.need("spatial")?,
                &names.ranks,
                3,
                "[rank, factor, axis]",
            )?,
        });
        let name = json.get("name").and_then(Json::as_str);
        names.levels.push(name.ok_or_else(|| {
            Mistake::new(
                format!("`{level}` has no name"),
                "the field `name`, a text, is expected",
            )
        })?);
    }
    Ok(())
}

fn factors(
    field: &Field<'_, '_>,
    ranks: &[&str],
    len: usize,
    form: &str,
) -> Result<Vec<Factor>, Mistake> {
    let mut factors = Vec::new();
    for item in field.list()? {
        let parts: Vec<Field<'_, '_>> = item.list()?.collect();
        let ([rank, factor], true) = (
            parts
                .first_chunk::<2>()
                .ok_or_else(|| item.expected(form))?,
            parts.len() == len,
        ) else {
            return Err(item.expected(form));
        };
        if let Some(axis) = parts.get(2) {
            axis.text()?;
        }
        factors.push(Factor {
            rank: rank.one_of("rank", ranks)?,
            factor: factor.factor()?,
        });
    }
    Ok(factors)
}

/// Accesses by level and tensor.
fn counts(
    root: &Field<'_, '_>,
    names: &Names<'_>,
    totals: &LevelTotals,
    values: &mut Vec<Compared>,
) -> Result<(), Mistake> {
    let exact = root.need("exact")?;
    let timeloop = root.need("timeloop")?;
    let expected = match exact.json {
        Json::String(text) if text == "equal" => timeloop.need("levels")?,
        Json::Object(_) => exact,
        _ => return Err(exact.expected("\"equal\", or counts by level and tensor, is expected")),
    };
    for (name, level) in expected.entries()? {
        known(&level, "level", name, &names.levels)?;
        for (name, tensor) in level.entries()? {
            known(&tensor, "tensor", name, &names.tensors)?;
        }
    }
    for (l, &level) in names.levels.iter().enumerate() {
        let given = expected.find(level)?;
        for (t, &tensor) in names.tensors.iter().enumerate() {
            let given = given
                .as_ref()
                .map_or(Ok(None), |given| given.find(tensor))?;
            let found = totals.counts[l][t];
            let actions = [
                ("reads", found.reads),
                ("fills", found.fills),
                ("updates", found.updates),
            ];
            for (what, found) in actions {
                // A tensor that is not kept has no counts.
                let expected = match &given {
                    Some(given) => given.need(what)?.count()?,
                    None => 0,
                };
                let (expected, found) = (Quantity::Count(expected), Quantity::Count(found));
                let (level, tensor) = (Some(level.to_string()), Some(tensor.to_string()));
                values.push(Compared {
                    level,
                    tensor,
                    what,
                    expected,
                    found,
                });
            }
        }
    }
    Ok(())
}

fn known(field: &Field<'_, '_>, kind: &str, name: &str, names: &[&str]) -> Result<(), Mistake> {
    if names.contains(&name) {
        return Ok(());
    }
    let message = format!("`{field}` is no {kind} of this case");
    Err(Mistake::new(
        message,
        &format!("known: {}", names.join(", ")),
    ))
}

/// Used instances of each level and of the multipliers.
fn instances(
    root: &Field<'_, '_>,
    names: &Names<'_>,
    totals: &LevelTotals,
    values: &mut Vec<Compared>,
) -> Result<(), Mistake> {
    let timeloop = root.need("timeloop")?;
    let Some(given) = timeloop.find("utilized_instances")? else {
        return Ok(());
    };
    for (name, used) in given.entries()? {
        let level = names.levels.iter().position(|&level| level == name);
        let found = match level {
            Some(l) => totals.instances[l],
            None if name == "MAC" => totals.multipliers,
            None => return known(&used, "level", name, &names.levels),
        };
        values.push(Compared {
            level: Some(name.to_string()),
            tensor: None,
            what: "utilized_instances",
            expected: Quantity::Count(used.count()?),
            found: Quantity::Count(found),
        });
    }
    Ok(())
}

/// Cycles, multiplications and utilization.
fn whole(
    root: &Field<'_, '_>,
    _: &Names<'_>,
    totals: &LevelTotals,
    values: &mut Vec<Compared>,
) -> Result<(), Mistake> {
    let timeloop = root.need("timeloop")?;
    let mut push = |what, expected, found| {
        values.push(Compared {
            level: None,
            tensor: None,
            what,
            expected,
            found,
        });
    };
    for (what, found) in [("cycles", totals.cycles), ("macs", totals.points)] {
        push(
            what,
            Quantity::Count(timeloop.need(what)?.count()?),
            Quantity::Count(found),
        );
    }
    let there_are = root.need("mac_instances")?.factor()?;
    let found = totals.multipliers as f64 / there_are as f64;
    push(
        "utilization",
        Quantity::Ratio(timeloop.need("utilization")?.ratio()?),
        Quantity::Ratio(found),
    );
    Ok(())
}
