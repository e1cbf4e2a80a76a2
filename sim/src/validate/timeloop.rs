//! Loop nests held against Timeloop's counts, case by case.

mod fields;

use std::fmt;

use einflow_arch::Counting;
use einflow_mappings::{
    hierarchy::{Hierarchy, LevelCounts, Tensor},
    nest::{CountError, Dim, Projection, Term, instances, iterations, points},
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
    let mut values = Vec::new();
    match nest.and_then(|nest| Totals::of(&nest).map_err(|error| error.to_string())) {
        Err(error) => mistakes.push(Mistake::new(
            format!("the nest of {id} cannot be counted: {error}"),
            "",
        )),
        Ok(totals) => {
            for part in [counts, used, whole] {
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

/// What a nest comes to.
struct Totals {
    counts: Vec<Vec<LevelCounts>>,
    /// Instances of each level that the spatial loops use.
    instances: Vec<u128>,
    multipliers: u128,
    points: u128,
    cycles: u128,
}

impl Totals {
    fn of(nest: &Hierarchy) -> Result<Self, CountError> {
        let Hierarchy { space, loops, .. } = nest;
        let outside = nest.levels.iter().map(|l| &loops[..l.depth]);
        Ok(Self {
            counts: nest.counts(Counting::Timeloop)?,
            instances: outside
                .map(|loops| instances(space, loops))
                .collect::<Result<_, _>>()?,
            multipliers: instances(space, loops)?,
            points: points(space)?,
            cycles: iterations(space, loops)?,
        })
    }
}

/// Reads the nest; mistakes in one part do not hide those in another. The inner error: it is no nest.
fn nest<'j>(
    root: &Field<'j, '_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<(Result<Hierarchy, String>, Names<'j>)> {
    let mut names = Names {
        ranks: Vec::new(),
        tensors: Vec::new(),
        levels: Vec::new(),
    };
    let mut nest = Hierarchy::default();
    let sizes = sizes(root, &mut names).map_err(|m| mistakes.push(m));
    let tensors = tensors(root, &mut names).map_err(|m| mistakes.push(m));
    let levels = levels(root, &mut names).map_err(|m| mistakes.push(m));
    nest.space.sizes = sizes.ok()?;
    nest.tensors = tensors.ok()?;
    let levels = levels.ok()?;
    let nest = check(&nest, &levels, &names).and_then(|()| {
        for (keep, [temporal, spatial]) in levels {
            let pushed = nest.push(keep, &temporal, &spatial);
            pushed.map_err(|error| error.to_string())?;
        }
        Ok(nest)
    });
    Some((nest, names))
}

/// What a level keeps, and (rank, factor) of its temporal and its spatial loops.
type Level = (Vec<usize>, [Vec<(usize, u64)>; 2]);

/// Refuses what Timeloop does not count in this form.
fn check(nest: &Hierarchy, levels: &[Level], names: &Names<'_>) -> Result<(), String> {
    for (r, (rank, &size)) in names.ranks.iter().zip(&nest.space.sizes).enumerate() {
        let factors = levels.iter().flat_map(|(_, loops)| loops.iter().flatten());
        let own = factors
            .filter(|(of, _)| *of == r)
            .map(|(_, n)| u128::from(*n));
        let product = own.fold(1, u128::saturating_mul);
        if product != size.into() {
            return Err(format!(
                "the factors of {rank} multiply to {product}, its size is {size}"
            ));
        }
    }
    for (t, (tensor, name)) in nest.tensors.iter().zip(&names.tensors).enumerate() {
        if levels.first().is_none_or(|(keep, _)| !keep.contains(&t)) {
            return Err(format!("the outermost level does not keep {name}"));
        }
        let mut seen = Vec::new();
        for dim in &tensor.projection.dims {
            for term in &dim.terms {
                if seen.contains(&term.rank) || (tensor.output && dim.terms.len() > 1) {
                    return Err(format!(
                        "{} must stand once in {name}, and alone in a dimension of a result",
                        names.ranks[term.rank]
                    ));
                }
                seen.push(term.rank);
            }
        }
    }
    Ok(())
}

fn sizes<'j>(root: &Field<'j, '_>, names: &mut Names<'j>) -> Result<Vec<u64>, Mistake> {
    let field = root.need("sizes")?;
    let mut sizes = Vec::new();
    for (name, size) in field.object()? {
        sizes.push(field.child(name, size).factor()?);
        names.ranks.push(name);
    }
    Ok(sizes)
}

fn tensors<'j>(root: &Field<'j, '_>, names: &mut Names<'j>) -> Result<Vec<Tensor>, Mistake> {
    let field = root.need("tensors")?;
    let mut tensors = Vec::new();
    for (name, json) in field.object()? {
        let tensor = field.child(name, json);
        let mut dims = Vec::new();
        for dim in tensor.need("dims")?.list()? {
            let terms = dim
                .list()?
                .map(|rank| Ok(Term::plain(rank.one_of("rank", &names.ranks)?)));
            dims.push(Dim::sum(terms.collect::<Result<_, _>>()?));
        }
        tensors.push(Tensor {
            projection: Projection::of(dims),
            output: tensor.need("output")?.flag()?,
        });
        names.tensors.push(name);
    }
    Ok(tensors)
}

fn levels<'j>(root: &Field<'j, '_>, names: &mut Names<'j>) -> Result<Vec<Level>, Mistake> {
    let field = root.need("levels")?;
    let items = field
        .json
        .as_array()
        .ok_or_else(|| field.expected("a list is expected"))?;
    let mut levels = Vec::new();
    for (i, json) in items.iter().enumerate() {
        let level = field.item(i, json);
        let mut keep = Vec::new();
        for tensor in level.need("keep")?.list()? {
            keep.push(tensor.one_of("tensor", &names.tensors)?);
        }
        let loops = |name, len, form| factors(&level.need(name)?, &names.ranks, len, form);
        let temporal = loops("temporal", 2, "[rank, factor]")?;
        let spatial = loops("spatial", 3, "[rank, factor, axis]")?;
        levels.push((keep, [temporal, spatial]));
        let name = json.get("name").and_then(Json::as_str);
        names.levels.push(name.ok_or_else(|| {
            Mistake::new(
                format!("`{level}` has no name"),
                "the field `name`, a text, is expected",
            )
        })?);
    }
    Ok(levels)
}

fn factors(
    field: &Field<'_, '_>,
    ranks: &[&str],
    len: usize,
    form: &str,
) -> Result<Vec<(usize, u64)>, Mistake> {
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
        factors.push((rank.one_of("rank", ranks)?, factor.factor()?));
    }
    Ok(factors)
}

/// Accesses by level and tensor.
fn counts(
    root: &Field<'_, '_>,
    names: &Names<'_>,
    totals: &Totals,
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
fn used(
    root: &Field<'_, '_>,
    names: &Names<'_>,
    totals: &Totals,
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
    totals: &Totals,
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
