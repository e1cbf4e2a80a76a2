//! The experiment file.

use std::path::PathBuf;

use einflow_spec::{
    Fields, Kind as NodeKind, Name, Node, Problem, Problems, Source, expr::Expr, list,
};

use super::claims::Claim;
use crate::runs;
use einflow_engine::request::{Accounting, Engine, Request};

/// An experiment.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// The file.
    pub source: Source,
    /// Its folder, if it is not embedded.
    pub beside: Option<PathBuf>,
    /// Whether a bare `validate` runs it.
    pub fast: bool,
    /// What it does.
    pub kind: Kind,
}

/// What an experiment does.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Runs each row of a reference table and compares columns.
    Table(Box<Table>),
    /// Compares means of ratios between runs.
    Means(Means),
    /// Compares access counts of loop nests with Timeloop's.
    Timeloop(Cases),
    /// Compares cycles of matrix products with SCALE-Sim's, and itemises the difference.
    Systolic(Systolic),
    /// Holds the array engine's miniatures against the cycle engine, the interpreter and golden references.
    Engines(Engines),
    /// Holds a device's model against a measured table.
    Device(DeviceTable),
    /// Shows attention on several devices.
    Devices(SideBySide),
    /// Holds what scenarios of pools of devices give against what is claimed.
    Claims(Vec<Claim>),
}

/// A measured table and how near a device's model has to come; each a largest mean error.
#[derive(Clone, Debug)]
pub struct DeviceTable {
    /// The device.
    pub device: String,
    /// The table.
    pub table: Node,
    /// Predicted columns that count; all where none is named.
    pub columns: Vec<String>,
    /// Over all rows, as the device's file has it.
    pub all: Option<f64>,
    /// Over the rows of a group, by its name.
    pub groups: Vec<(String, f64)>,
    /// On a half that a fit to the other has not seen, law by law.
    pub half: Option<f64>,
    /// On families left out of the fit, one at a time.
    pub families: Option<f64>,
    /// Between the points of the measured grid, each left out in turn.
    pub grid: Option<f64>,
}

/// Shapes of attention, and devices side by side.
#[derive(Clone, Debug)]
pub struct SideBySide {
    /// The devices.
    pub devices: Vec<String>,
    /// Query heads and key heads.
    pub heads: (u64, u64),
    /// Width of a head.
    pub width: u64,
    /// Batch and cached tokens.
    pub decode: Vec<(u64, u64)>,
    /// Batch and prompt.
    pub prefill: Vec<(u64, u64)>,
}

/// Runs whose miniatures the engines must agree on.
#[derive(Clone, Debug)]
pub struct Engines {
    /// The models.
    pub models: Vec<String>,
    /// The lengths.
    pub lengths: Vec<u64>,
    /// The runs.
    pub runs: Vec<Request>,
    /// Largest error of a value, relative to the largest.
    pub tolerance: f64,
}

/// Matrix products on systolic arrays, a row each.
#[derive(Clone, Debug)]
pub struct Systolic {
    /// The CSV file: dataflow, rows, columns, m, n, k, cycles.
    pub reference: Node,
    /// The accelerator, whose array takes each row's size; `{rows}` in its name stands for the row's rows.
    pub accelerator: String,
}

/// A file of loop nests with their counts.
#[derive(Clone, Debug)]
pub struct Cases {
    /// The file, one JSON object a line.
    pub file: Node,
    /// Largest relative error.
    pub tolerance: f64,
}

/// A reference table and the run of one of its rows.
#[derive(Clone, Debug)]
pub struct Table {
    /// The CSV file.
    pub reference: Node,
    /// Runs that add up to a row's result.
    pub runs: Vec<Request>,
    /// The column that names the model.
    pub model: Option<Name>,
    /// The column that gives the length.
    pub length_column: Option<Name>,
    /// The length of every row, where no column gives it.
    pub length: Option<u64>,
    /// Fields of the accelerator, each an expression over the row's columns and the model's sizes.
    pub set: Vec<(String, Expr)>,
    /// A field that grows until a condition holds.
    pub grow: Option<Grow>,
    /// What is compared.
    pub columns: Vec<Column>,
    /// Rows beyond the reference's: computed and shown, compared with nothing.
    pub also: Vec<(String, Vec<u64>)>,
}

/// A field of the accelerator that doubles while memory takes longer than compute.
#[derive(Clone, Debug)]
pub struct Grow {
    /// The field's path.
    pub field: String,
    /// Its first value.
    pub from: Expr,
}

/// One compared column.
#[derive(Clone, Debug)]
pub struct Column {
    /// The reference's column.
    pub column: Name,
    /// The path of the value in the run's JSON report.
    pub value: Name,
    /// How close it must be.
    pub bound: Bound,
    /// Largest relative error, by length: up to the first field tokens, the second holds.
    pub tolerances: Vec<(u64, f64)>,
}

/// How a value must stand to its reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Within the tolerance, to both sides.
    Within,
    /// Not above the reference by more than the tolerance.
    AtMost,
    /// Not below the reference by more than the tolerance.
    AtLeast,
    /// Shown only.
    Report,
}

/// Means of ratios over models and lengths.
#[derive(Clone, Debug)]
pub struct Means {
    /// The models.
    pub models: Vec<String>,
    /// The lengths.
    pub lengths: Vec<u64>,
    /// Whose accounting.
    pub accounting: Accounting,
    /// The ratios.
    pub ratios: Vec<Ratio>,
}

/// One mean of ratios.
#[derive(Clone, Debug)]
pub struct Ratio {
    /// Its name.
    pub name: String,
    /// The path of the value in the runs' JSON reports.
    pub value: Name,
    /// Runs whose values add up above the line.
    pub over: Vec<Request>,
    /// Runs whose values add up below it.
    pub under: Vec<Request>,
    /// The published mean.
    pub expected: f64,
    /// How close it must be.
    pub bound: Bound,
    /// Largest relative error.
    pub tolerance: f64,
}

impl Experiment {
    /// Reads an experiment file. `beside` is its folder, where it has one.
    ///
    /// # Errors
    /// Every mistake in the file's form.
    pub fn parse(source: &Source, beside: Option<PathBuf>) -> Result<Self, Problems> {
        let node = Node::parse(source)?;
        let mut f = Fields::new(&node, "an experiment");
        let name = f.need("name", text);
        f.need("source", text);
        f.get("description", text);
        let fast = f.get("fast", Node::bool).unwrap_or(true);
        let what = f.need("kind", |n| match n.text()? {
            kind @ ("table" | "means" | "timeloop" | "systolic" | "engines" | "device"
            | "devices" | "claims") => Ok(kind.to_string()),
            _ => Err(
                n.expected("table, means, timeloop, systolic, engines, device, devices or claims")
            ),
        });
        let kind = match what.as_deref() {
            Some("table") => table(&mut f, beside.as_ref()).map(|t| Kind::Table(Box::new(t))),
            Some("means") => means(&mut f, beside.as_ref()).map(Kind::Means),
            Some("timeloop") => {
                let file = f.need("cases", |n| n.text().map(|_| n.clone()));
                let tolerance = f.need("tolerance", tolerance);
                f.need("reason", text);
                file.zip(tolerance)
                    .map(|(file, tolerance)| Kind::Timeloop(Cases { file, tolerance }))
            }
            Some("engines") => {
                let models = f.need_all("models", |n| runs::each(n, text));
                let lengths = f.need_all("lengths", |n| runs::each(n, runs::length));
                let runs = f.need_all("runs", |n| requests(n, beside.as_ref()));
                let tolerance = f.need("tolerance", tolerance);
                f.need("reason", text);
                (|| {
                    Some(Kind::Engines(Engines {
                        models: models?,
                        lengths: lengths?,
                        runs: runs?,
                        tolerance: tolerance?,
                    }))
                })()
            }
            Some("device") => {
                let device = f.need("device", text);
                let table = f.need("table", |n| n.text().map(|_| n.clone()));
                let columns = f.get("columns", |n| n.list()?.iter().map(text).collect());
                let groups = f.get_all("groups", groups);
                let mut limit = |name| f.get(name, tolerance);
                let (all, half) = (limit("all"), limit("half"));
                let (families, grid) = (limit("families"), limit("grid"));
                f.need("reason", text);
                let value = device.zip(table);
                value.map(|(device, table)| {
                    Kind::Device(DeviceTable {
                        device,
                        table,
                        columns: columns.unwrap_or_default(),
                        all,
                        groups: groups.unwrap_or_default(),
                        half,
                        families,
                        grid,
                    })
                })
            }
            Some("devices") => side_by_side(&mut f).map(Kind::Devices),
            Some("claims") => f
                .need_all("claims", |n| list(n, super::claims::read))
                .map(Kind::Claims),
            Some("systolic") => {
                let reference = f.need("reference", |n| n.text().map(|_| n.clone()));
                let accelerator = f.need("accelerator", text);
                f.need("reason", text);
                let value = reference.zip(accelerator);
                value.map(|(reference, accelerator)| {
                    Kind::Systolic(Systolic {
                        reference,
                        accelerator,
                    })
                })
            }
            _ => {
                f.allow_all();
                None
            }
        };
        let value = name.zip(kind).map(|(name, kind)| Self {
            name,
            source: source.clone(),
            beside: beside.clone(),
            fast,
            kind,
        });
        f.finish(value)
    }
}

fn side_by_side(f: &mut Fields<'_>) -> Option<SideBySide> {
    let pair = |n: &Node| -> Result<(u64, u64), Problem> {
        match n.list()? {
            [a, b] => Ok((a.u64()?.max(1), b.u64()?.max(1))),
            _ => Err(n.expected("two numbers, [a, b]")),
        }
    };
    let pairs = |n: &Node| n.list()?.iter().map(pair).collect::<Result<Vec<_>, _>>();
    let devices = f.need("devices", |n| n.list()?.iter().map(text).collect());
    let heads = f.need("heads", pair);
    let width = f.need("width", Node::u64);
    let decode = f.need("decode", pairs);
    let prefill = f.need("prefill", pairs);
    Some(SideBySide {
        devices: devices?,
        heads: heads?,
        width: width?,
        decode: decode?,
        prefill: prefill?,
    })
}

pub(super) fn text(node: &Node) -> Result<String, Problem> {
    Ok(node.text()?.to_string())
}

fn requests(node: &Node, beside: Option<&PathBuf>) -> Result<Vec<Request>, Problems> {
    list(node, |n| {
        let mut request = runs::run(n)?;
        request.beside = beside.cloned();
        Ok(request)
    })
}

fn table(f: &mut Fields<'_>, beside: Option<&PathBuf>) -> Option<Table> {
    let reference = f.need("reference", |n| n.text().map(|_| n.clone()));
    let engine = f
        .get("engine", |n| {
            Engine::named(n.text()?).map_err(|p| runs::placed(n, p))
        })
        .unwrap_or_default();
    let runs = f.need_all("runs", |n| requests(n, beside)).map(|mut runs| {
        runs.iter_mut().for_each(|r| r.engine = engine);
        runs
    });
    let model = f.get("model_column", Name::read);
    let length_column = f.get("length_column", Name::read);
    let length = f.get("length", runs::length);
    let set = f
        .get_all("set", |n| {
            let mut problems = Problems::new();
            let mut out = Vec::new();
            for (path, _, value) in n.record()? {
                if let Some(value) = problems.absorb(Expr::read(value).map_err(Problems::from)) {
                    out.push((path.clone(), value));
                }
            }
            problems.into_result(Some(out))
        })
        .unwrap_or_default();
    let grow = f.get_all("grow", |n| {
        let mut f = Fields::new(n, "a growing field");
        let field = f.need("field", text);
        let from = f.need("from", Expr::read);
        let value = field.zip(from).map(|(field, from)| Grow { field, from });
        f.finish(value)
    });
    let columns = f.need_all("columns", |n| list(n, column));
    let also = f
        .get_all("also", |n| {
            list(n, |n| {
                let mut f = Fields::new(n, "further rows");
                let model = f.need("model", text);
                let lengths = f.need_all("lengths", |n| runs::each(n, runs::length));
                let value = model.zip(lengths);
                f.finish(value)
            })
        })
        .unwrap_or_default();
    if length.is_none() && length_column.is_none() {
        f.push(
            f.node()
                .problem("a table needs the length of its rows")
                .help("give `length_column` or `length`"),
        );
    }
    Some(Table {
        reference: reference?,
        runs: runs?,
        model,
        length_column,
        length,
        set,
        grow,
        columns: columns?,
        also,
    })
}

fn bound(node: &Node) -> Result<Bound, Problem> {
    match node.text()? {
        "within" => Ok(Bound::Within),
        "at_most" => Ok(Bound::AtMost),
        "at_least" => Ok(Bound::AtLeast),
        "report" => Ok(Bound::Report),
        _ => Err(node.expected("within, at_most, at_least or report")),
    }
}

/// Groups of a table's rows, each with its limit.
fn groups(node: &Node) -> Result<Vec<(String, f64)>, Problems> {
    let mut problems = Problems::new();
    let mut out = Vec::new();
    for (name, _, value) in node.record()? {
        out.extend(
            problems
                .absorb(tolerance(value).map_err(Problems::from))
                .map(|v| (name.clone(), v)),
        );
    }
    problems.into_result(Some(out))
}

pub(super) fn tolerance(node: &Node) -> Result<f64, Problem> {
    let value = node.f64()?;
    if value < 0.0 {
        Err(node.expected("a relative error of 0 or more"))
    } else {
        Ok(value)
    }
}

fn column(node: &Node) -> Result<Column, Problems> {
    let mut f = Fields::new(node, "a column");
    let column = f.need("column", Name::read);
    let value = f.need("value", Name::read);
    let how = f.get("bound", bound).unwrap_or(Bound::Within);
    let tolerances = f.need_all("tolerance", |n| match &n.kind {
        NodeKind::List(_) => list(n, |n| {
            let mut f = Fields::new(n, "a tolerance");
            let up_to = f.get("up_to", runs::length).unwrap_or(u64::MAX);
            let tolerance = f.need("tolerance", tolerance);
            f.need("reason", text);
            let value = tolerance.map(|t| (up_to, t));
            f.finish(value)
        }),
        _ => Ok(vec![(u64::MAX, tolerance(n)?)]),
    });
    let listed = node.record().is_ok_and(|r| {
        r.iter()
            .any(|(k, _, v)| k == "tolerance" && matches!(v.kind, NodeKind::List(_)))
    });
    if listed {
        f.optional("reason");
    } else {
        f.need("reason", text);
    }
    let value = (|| {
        Some(Column {
            column: column?,
            value: value?,
            bound: how,
            tolerances: tolerances?,
        })
    })();
    f.finish(value)
}

fn means(f: &mut Fields<'_>, beside: Option<&PathBuf>) -> Option<Means> {
    let models = f.need_all("models", |n| runs::each(n, text));
    let lengths = f.need_all("lengths", |n| runs::each(n, runs::length));
    let accounting = f.get("accounting", runs::accounting).unwrap_or_default();
    let ratios = f.need_all("ratios", |n| {
        list(n, |n| {
            let mut f = Fields::new(n, "a ratio");
            let own_name = f.need("name", text);
            let value = f.need("value", Name::read);
            let over = f.need_all("over", |n| requests(n, beside));
            let under = f.need_all("under", |n| requests(n, beside));
            let expected = f.need("expected", Node::f64);
            let how = f.get("bound", bound).unwrap_or(Bound::Within);
            let tolerance = f.need("tolerance", tolerance);
            f.need("reason", text);
            let value = (|| {
                Some(Ratio {
                    name: own_name?,
                    value: value?,
                    over: over?,
                    under: under?,
                    expected: expected?,
                    bound: how,
                    tolerance: tolerance?,
                })
            })();
            f.finish(value)
        })
    });
    Some(Means {
        models: models?,
        lengths: lengths?,
        accounting,
        ratios: ratios?,
    })
}
