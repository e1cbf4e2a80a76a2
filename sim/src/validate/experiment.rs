//! The experiment file.

use std::path::PathBuf;

use einflow_spec::{
    At, FieldRow, Fields, Form, Kind as NodeKind, Name, Node, Part, Problems, Record, Source,
    Written, expr::Expr, list, map, named, record,
};
use indexmap::IndexMap;

use super::claims::Claim;
use crate::runs::{length, lengths, requests};
use einflow_engine::request::{Accounting, Engine, Request};

record! {
    /// An experiment.
    #[derive(Clone, Debug)]
    pub struct Experiment = "an experiment" {
        unread source: String;
        unread description: Option<String> => "nothing", "One or two sentences.";
        /// Its name.
        pub name: String;
        /// The file.
        pub source: Source where Source;
        /// Its folder, if it is not embedded.
        pub beside: Option<PathBuf> where PathBuf;
        /// Whether a bare `validate` runs it.
        pub fast: bool = true;
        /// What it does.
        pub kind: Kind where Kind;
    }
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
    Claims(Claims),
}

named! {
    /// The kinds by their names; what else an experiment has depends on its kind.
    enum KindName = "kind" {
        Table = "table",
        Means = "means",
        Timeloop = "timeloop",
        Systolic = "systolic",
        Engines = "engines",
        Device = "device",
        Devices = "devices",
        Claims = "claims",
    }
}

impl Part<Kind> for Kind {
    fn take(fields: &mut Fields<'_>) -> Option<Self> {
        let Some(name) = fields.needed("kind", KindName::form()) else {
            fields.allow_all();
            return None;
        };
        Some(match name {
            KindName::Table => Self::Table(Box::new(Record::take(fields)?)),
            KindName::Means => Self::Means(Record::take(fields)?),
            KindName::Timeloop => Self::Timeloop(Record::take(fields)?),
            KindName::Systolic => Self::Systolic(Record::take(fields)?),
            KindName::Engines => Self::Engines(Record::take(fields)?),
            KindName::Device => Self::Device(Record::take(fields)?),
            KindName::Devices => Self::Devices(Record::take(fields)?),
            KindName::Claims => Self::Claims(Record::take(fields)?),
        })
    }

    fn fields() -> Vec<FieldRow> {
        vec![FieldRow {
            name: "kind",
            value: (KindName::form().value)(),
            left_out: "required",
            meaning: "What it does; the rest of the fields are those of its kind, below.".into(),
        }]
    }
}

record! {
    /// A measured table and how near a device's model has to come; each limit is a largest mean error.
    #[derive(Clone, Debug)]
    pub struct DeviceTable = "a measured table" {
        unread reason: String, "Why that is close enough.";
        /// The device.
        pub device: String;
        /// The table.
        pub table: At<String>;
        /// Predicted columns that count.
        pub columns: Vec<Name> = Vec::new() => "all";
        /// The limit over all rows, as the device's file has it, of each column.
        pub all: Option<f64> as tolerance => "not compared";
        /// Limits over the rows of a group as `predict` names it: `{"split2": 0.15}`.
        pub groups: IndexMap<String, f64> as tolerances = IndexMap::new() => "not compared";
        /// The limit on a half that a fit to the other has not seen, law by law, of the mean over five draws.
        pub half: Option<f64> as tolerance => "not compared";
        /// The limit of the mean over families ((k, n), heads, a tensor-parallel degree) left out of the fit one at a time.
        pub families: Option<f64> as tolerance => "not compared";
        /// The limit of interpolation at each point of the measured grid from the others.
        pub grid: Option<f64> as tolerance => "not compared";
    }
}

record! {
    /// Shapes of attention, and devices side by side.
    #[derive(Clone, Debug)]
    pub struct SideBySide = "devices side by side" {
        /// The devices; accelerators under both engines.
        pub devices: Vec<String>;
        /// Query heads and key heads.
        pub heads: (u64, u64) as pair;
        /// Width of a head.
        pub width: u64;
        /// Batch and cached tokens of each case.
        pub decode: Vec<(u64, u64)> as couples;
        /// Batch and prompt of each case.
        pub prefill: Vec<(u64, u64)> as couples;
    }
}

record! {
    /// Claims about systems of devices.
    #[derive(Clone, Debug)]
    pub struct Claims = "claims" {
        /// The claims, below.
        pub claims: Vec<Claim>;
    }
}

record! {
    /// Runs whose miniatures the engines must agree on.
    #[derive(Clone, Debug)]
    pub struct Engines = "engines against each other" {
        unread reason: String, "Why that is close enough.";
        /// The models.
        pub models: Vec<String>;
        /// The lengths.
        pub lengths: Vec<u64> as lengths;
        /// The runs: every combination in miniature.
        pub runs: Vec<Request> as requests;
        /// Largest error of a value, relative to the largest.
        pub tolerance: f64 as tolerance;
    }
}

record! {
    /// Matrix products on systolic arrays, a row each.
    #[derive(Clone, Debug)]
    pub struct Systolic = "systolic arrays" {
        unread reason: String, "Why that is close enough.";
        /// A CSV file: dataflow (output, weight, input), rows, columns, m, n, k, cycles.
        pub reference: At<String>;
        /// The accelerator, whose array takes each row's size; `{rows}` in its name stands for the row's rows.
        pub accelerator: String;
    }
}

record! {
    /// A file of loop nests with their counts.
    #[derive(Clone, Debug)]
    pub struct Cases = "loop nests" {
        unread reason: String, "Why that is close enough.";
        /// The file, one JSON object a line, beside the experiment or embedded.
        pub file("cases"): At<String>;
        /// Largest relative error.
        pub tolerance: f64 as tolerance;
    }
}

record! {
    /// A reference table and the run of one of its rows.
    #[derive(Clone, Debug)]
    pub struct Table = "a table" {
        /// A CSV file with a header, beside the experiment or embedded.
        pub reference: At<String>;
        /// What computes the results.
        pub engine: Engine = Engine::default() => "`analytic`";
        /// Runs that add up to a row's result.
        pub runs: Vec<Request> as requests;
        /// The column that names the model.
        pub model("model_column"): Option<Name> => "no model: the runs give `sizes`";
        /// The column that gives the length.
        pub length_column: Option<Name> => "`length` is given";
        /// The length of every row.
        pub length: Option<u64> as length => "`length_column` is given";
        /// Numbers of the accelerator, by their paths, each an expression over the row's columns and the model's sizes:
        /// `{"arrays.array2d.rows": "PE_dim"}`.
        pub set: Vec<(Name, Expr)> = Vec::new() => "none";
        /// A number of the accelerator that grows.
        pub grow: Option<Grow> => "none";
        /// What is compared, below.
        pub columns: Vec<Column>;
        /// Rows beyond the reference's: computed and shown, compared with nothing.
        pub also: Vec<Further> = Vec::new() => "none";
    } check |fields| {
        let given = ["length", "length_column"].map(|field| fields.has(field));
        let message = match given {
            [false, false] => "a table needs the length of its rows",
            [true, true] => "a table has two lengths for each row",
            _ => "",
        };
        if !message.is_empty() {
            let problem = fields.node().problem(message);
            fields.push(problem.help("give `length_column` or `length`"));
        }
    }
}

record! {
    /// A number of the accelerator that doubles while memory takes longer than compute.
    #[derive(Clone, Debug)]
    pub struct Grow = "a growing field" {
        /// Its path.
        pub field: String;
        /// Its first value.
        pub from: Expr;
    }
}

record! {
    /// Rows without a reference.
    #[derive(Clone, Debug)]
    pub struct Further = "further rows" {
        /// The model.
        pub model: String;
        /// The lengths.
        pub lengths: Vec<u64> as lengths;
    }
}

record! {
    /// One compared column.
    #[derive(Clone, Debug)]
    pub struct Column = "a column" {
        unread reason: Option<String> => "each of a list of tolerances has its own", "Why that is close enough.";
        /// The reference's column.
        pub column: Name;
        /// The path of a number in the run's JSON report.
        pub value: Name;
        /// How the value must stand to the reference: within the tolerance, not above or not below it by more, or shown only.
        pub bound: Bound = Bound::Within => "`within`";
        /// Largest relative error; in a list by length, the last without `up_to`.
        pub tolerances("tolerance"): Vec<Tolerance> as by_length;
    } check |fields| {
        if !matches!(fields.optional("tolerance").map(|node| &node.kind), Some(NodeKind::List(_))) {
            fields.required("reason");
        }
    }
}

record! {
    /// How close a value must be, up to a length.
    #[derive(Clone, Debug)]
    pub struct Tolerance = "a tolerance" {
        unread reason: String, "Why that is close enough.";
        /// It holds up to this many tokens.
        pub up_to: u64 as length = u64::MAX => "any length";
        /// Largest relative error.
        pub tolerance: f64 as tolerance;
    }
}

named! {
    /// How a value must stand to its reference.
    pub enum Bound = "bound" {
        /// Within the tolerance, to both sides.
        Within = "within",
        /// Not above the reference by more than the tolerance.
        AtMost = "at_most",
        /// Not below the reference by more than the tolerance.
        AtLeast = "at_least",
        /// Shown only.
        Report = "report",
    }
}

record! {
    /// Means of ratios over models and lengths.
    #[derive(Clone, Debug)]
    pub struct Means = "means" {
        /// The models.
        pub models: Vec<String>;
        /// The lengths.
        pub lengths: Vec<u64> as lengths;
        /// Whose accounting.
        pub accounting: Accounting = Accounting::default() => "`correct`";
        /// The ratios, below.
        pub ratios: Vec<Ratio>;
    }
}

record! {
    /// One mean of ratios.
    #[derive(Clone, Debug)]
    pub struct Ratio = "a ratio" {
        unread reason: String, "Why that is close enough.";
        /// Its name.
        pub name: String;
        /// The path of the value in the runs' JSON reports.
        pub value: Name;
        /// Runs whose values add up above the line.
        pub over: Vec<Request> as requests;
        /// Runs whose values add up below it.
        pub under: Vec<Request> as requests;
        /// The published mean.
        pub expected: f64;
        /// How the mean must stand to it.
        pub bound: Bound = Bound::Within => "`within`";
        /// Largest relative error.
        pub tolerance: f64 as tolerance;
    }
}

impl Experiment {
    /// Reads an experiment file. `beside` is its folder, where it has one.
    ///
    /// # Errors
    /// Every mistake in the file's form.
    pub fn parse(source: &Source, beside: Option<PathBuf>) -> Result<Self, Problems> {
        Self::read_beside(&Node::parse(source)?, beside.as_deref())
    }
}

pub(super) fn tolerance() -> Form<f64> {
    Form {
        value: || "a number of 0 or more".into(),
        read: |_, node| match node.f64()? {
            value if value < 0.0 => Err(node.expected("a relative error of 0 or more").into()),
            value => Ok(value),
        },
    }
}

fn tolerances() -> Form<IndexMap<String, f64>> {
    Form {
        value: || format!("map from names: {}", (tolerance().value)()),
        read: |_, node| map(node, tolerance().read),
    }
}

fn by_length() -> Form<Vec<Tolerance>> {
    Form {
        value: || format!("{}; or list: {}", (tolerance().value)(), Tolerance::WHAT),
        read: |name, node| match &node.kind {
            NodeKind::List(_) => (Written::form().read)(name, node),
            _ => {
                let (up_to, tolerance) = (u64::MAX, (tolerance().read)(name, node)?);
                Ok(vec![Tolerance { up_to, tolerance }])
            }
        },
    }
}

fn pair() -> Form<(u64, u64)> {
    Form {
        value: || "two whole numbers, at least 1: `[a, b]`".into(),
        read: |_, node| match node.list()? {
            [a, b] => match (a.u64()?, b.u64()?) {
                (0, _) => Err(a.expected("a number of at least 1").into()),
                (_, 0) => Err(b.expected("a number of at least 1").into()),
                pair => Ok(pair),
            },
            _ => Err(node.expected("two numbers, [a, b]").into()),
        },
    }
}

fn couples() -> Form<Vec<(u64, u64)>> {
    Form {
        value: || "list: `[a, b]`".into(),
        read: |name, node| list(node, |node| (pair().read)(name, node)),
    }
}
