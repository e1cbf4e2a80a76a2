//! The checked form of a cascade: what every later stage reads.

use std::collections::BTreeMap;

use einflow_spec::{Source, Span};
use indexmap::IndexMap;
use petgraph::graph::DiGraph;

/// Index of a rank in [`Cascade::ranks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RankId(pub usize);

/// Index of a tensor in [`Cascade::tensors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorId(pub usize);

/// Index of an Einsum in [`Cascade::einsums`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EinsumId(pub usize);

/// A checked cascade of Einsums.
#[derive(Clone, Debug)]
pub struct Cascade {
    /// The name, as in the file (`attention/one-pass`).
    pub name: String,
    /// Where the cascade is published.
    pub cited: String,
    /// One or two sentences.
    pub description: String,
    /// The file, for messages about it.
    pub source: Source,
    /// Every rank, batch ranks included.
    pub ranks: Vec<Rank>,
    /// Ranks that stand in front of every tensor and Einsum, unwritten (B, H), outermost first.
    pub batch: Vec<RankId>,
    /// Ranks that are split into parts by the cascade itself.
    pub partitions: Vec<Partition>,
    /// Sizes that input shapes do not fix, with their defaults (M0 = 16, a window's width): names of
    /// ranks or of plain parameters. A rank's size may also follow from an expression over others.
    pub parameters: IndexMap<String, Parameter>,
    /// Inputs in declared order, then the others in order of production.
    pub tensors: Vec<Tensor>,
    /// In an order in which every Einsum follows what it reads, except through iterative ranks.
    pub einsums: Vec<Einsum>,
    /// Declared outputs.
    pub outputs: Vec<TensorId>,
    /// Producer to consumer; the weight is the tensor and whether it is read at the previous coordinate of an
    /// iterative rank (such edges may close a cycle, all others form a DAG).
    pub graph: DiGraph<EinsumId, Edge>,
}

/// An edge of [`Cascade::graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// What flows.
    pub tensor: TensorId,
    /// True where the consumer reads the previous coordinate of an iterative rank.
    pub previous: bool,
}

/// A rank: its name and its size are one symbol (`M1`), its variable is lower case (`m1`).
#[derive(Clone, Debug)]
pub struct Rank {
    /// The upper-case name.
    pub name: String,
    /// The rank variable.
    pub variable: String,
}

/// A size that input shapes do not fix.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Value or expression over ranks and parameters, as written.
    pub default: einflow_spec::expr::Expr,
    /// Written `"= M0"`: the size is always that, and cannot be given otherwise.
    pub fixed: bool,
    /// Where it stands.
    pub span: Span,
}

/// `M -> M1, M0`: a coordinate of `whole` is `m1 * M0 + m0`; the last tile may be partial. The
/// size of the outermost part is `ceil(whole / product of the others)`.
#[derive(Clone, Debug)]
pub struct Partition {
    /// The rank that is split.
    pub whole: RankId,
    /// The parts, outermost first.
    pub parts: Vec<RankId>,
}

/// What a tensor is to the cascade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// Given from outside.
    Input,
    /// Made and used inside.
    Intermediate,
    /// Made for outside.
    Output,
    /// Another name for (part of) an input or of another tensor with its coordinates renamed, as by
    /// a partition (`BK[e, m1, m0] = K[e, m1*M0 + m0]`): moves no data and computes nothing.
    View,
}

/// A tensor, without the batch ranks that stand in front of every tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// What it is to the cascade.
    pub kind: TensorKind,
    /// Its ranks in declared order. The size of an iterative rank's dimension is the rank's size
    /// plus one (coordinate 0 holds the initial value).
    pub ranks: Vec<RankId>,
    /// Which of [`Tensor::ranks`] is iterative, if any: `RM[m1+1, p] = ...`. A step at a point that is not visited (a
    /// condition fails, an operand is empty) keeps the previous value, so such a tensor is empty nowhere.
    pub iterative: Option<usize>,
    /// The Einsum that makes it; `None` for an input.
    pub producer: Option<EinsumId>,
    /// Holds coordinates of this rank rather than numbers: the result of a top-k, or an input declared so
    /// (`TABLE[j] -> m`).
    pub coordinates_of: Option<RankId>,
    /// Conditions on its own coordinates outside which it is empty (a causal mask, a partial last tile), over
    /// the variables of [`Tensor::ranks`] and sizes; all must hold.
    pub support: Vec<Condition>,
    /// Where it is first named.
    pub span: Span,
}

/// A condition on coordinates; an [`einflow_spec::expr::Expr`] over rank variables and sizes
/// (ranks and parameters by name).
#[derive(Clone, Debug, PartialEq)]
pub struct Condition(pub einflow_spec::expr::Expr);

/// An index expression: a whole number over rank variables and sizes, or a read of an index tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Index {
    /// An expression over rank variables and sizes. `is_variable` tells the plain `m` apart.
    Expr(einflow_spec::expr::Expr),
    /// `IDX[k, p]`: the coordinate that an index tensor holds.
    Gather(TensorId, Vec<Index>),
}

/// A read of a tensor inside an Einsum.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The tensor as written (perhaps a view).
    pub tensor: TensorId,
    /// One index for each of the tensor's ranks.
    pub indices: Vec<Index>,
    /// How the read stands to the tensor's iterative rank, if it has one.
    pub time: ReadTime,
    /// Where it stands.
    pub span: Span,
}

/// How a read stands to the iterative rank of its tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadTime {
    /// The tensor has no iterative rank.
    Plain,
    /// `RM[m1, p]`: the value before this coordinate's update.
    Previous,
    /// `RM[m1+1, p]`: the value after it.
    Current,
    /// `RD[M1, p]`: the last value.
    Last,
    /// Any other coordinate (`S[p+1]` read over another rank): all of it is needed first.
    Other,
}

/// A numeric expression of an Einsum's map step.
#[derive(Clone, Debug, PartialEq)]
pub enum Map {
    /// A constant; `-inf` is one.
    Constant(f64),
    /// Index into [`Einsum::reads`].
    Read(usize),
    /// A size or rank variable used as a number (`1 / sqrt(E)`, a decay's exponent).
    Coordinate(einflow_spec::expr::Expr),
    /// An operation on one, two or (for select) three operands.
    Apply(Function, Vec<Map>),
}

impl Map {
    /// Whether it reads a tensor; what does not is the same at every point but for its coordinates.
    pub fn reads(&self) -> bool {
        match self {
            Map::Read(_) => true,
            Map::Constant(_) | Map::Coordinate(_) => false,
            Map::Apply(_, operands) => operands.iter().any(Map::reads),
        }
    }
}

/// The element functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Function {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    Neg,
    Abs,
    Exp,
    Exp2,
    Log,
    Sqrt,
    Rsqrt,
    Sigmoid,
    Tanh,
    Relu,
    Silu,
    Gelu,
    Pow,
}

impl Function {
    /// The operator's name in text, in operation counts and in accelerator files.
    pub fn name(self) -> &'static str {
        match self {
            Function::Add => "add",
            Function::Sub => "sub",
            Function::Mul => "mul",
            Function::Div => "div",
            Function::Max => "max",
            Function::Min => "min",
            Function::Neg => "neg",
            Function::Abs => "abs",
            Function::Exp => "exp",
            Function::Exp2 => "exp2",
            Function::Log => "log",
            Function::Sqrt => "sqrt",
            Function::Rsqrt => "rsqrt",
            Function::Sigmoid => "sigmoid",
            Function::Tanh => "tanh",
            Function::Relu => "relu",
            Function::Silu => "silu",
            Function::Gelu => "gelu",
            Function::Pow => "pow",
        }
    }
}

/// How the map's values that fall on one output point are combined.
#[derive(Clone, Debug, PartialEq)]
pub enum Reduce {
    /// No two points of the iteration space fall on one output point.
    None,
    /// Sum; identity 0.
    Sum,
    /// Largest; identity -inf.
    Max,
    /// Smallest; identity +inf.
    Min,
    /// The coordinates along `over` of the largest values, in descending order of value (ties: the lower
    /// coordinate first), populate the output's rank `into`; points beyond the number of non-empty
    /// values stay empty.
    Top {
        /// The reduced rank.
        over: RankId,
        /// The output's rank, whose size is k.
        into: RankId,
    },
}

/// One Einsum.
#[derive(Clone, Debug)]
pub struct Einsum {
    /// The tensor that it populates; an Einsum is called by this tensor's name.
    pub output: TensorId,
    /// Ranks of the iteration space without the batch: the output's in declared order, then the reduced
    /// ones in order of first appearance. The rank that a top-k populates is not among them.
    pub ranks: Vec<RankId>,
    /// Ranks that are missing on the left.
    pub reduced: Vec<RankId>,
    /// True for a view ([`TensorKind::View`]): no operation, no movement.
    pub view: bool,
    /// The operand reads, each once however often it is written; index tensors stand inside their indices.
    pub reads: Vec<Read>,
    /// The map step.
    pub map: Map,
    /// The reduce step.
    pub reduce: Reduce,
    /// Conditions of its own (`where`), all of which must hold; those that its operands' emptiness
    /// implies are in [`Einsum::support`].
    pub conditions: Vec<Condition>,
    /// Every condition on the iteration space: its own and those inherited from operands, over this Einsum's
    /// rank variables and sizes. A point where one fails is not visited.
    pub support: Vec<Condition>,
    /// The value of the output's iterative rank at coordinate 0.
    pub initial: Option<f64>,
    /// The statement's place in the file.
    pub span: Span,
}

/// Sizes of every rank and parameter of a cascade, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(pub BTreeMap<String, u64>);

impl Sizes {
    /// The size of a rank or parameter.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }
}

impl Index {
    /// True where a rank variable stands in the index.
    pub fn names(&self, variable: &str) -> bool {
        match self {
            Index::Expr(expr) => {
                let mut found = false;
                expr.walk(&mut |part| {
                    found |= matches!(part, einflow_spec::expr::Expr::Name { name, .. } if name == variable);
                });
                found
            }
            Index::Gather(_, indices) => indices.iter().any(|index| index.names(variable)),
        }
    }
}

impl Cascade {
    /// A rank.
    pub fn rank(&self, id: RankId) -> &Rank {
        &self.ranks[id.0]
    }

    /// A tensor.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// An Einsum.
    pub fn einsum(&self, id: EinsumId) -> &Einsum {
        &self.einsums[id.0]
    }

    /// A tensor by name.
    pub fn tensor_named(&self, name: &str) -> Option<TensorId> {
        self.tensors
            .iter()
            .position(|t| t.name == name)
            .map(TensorId)
    }

    /// A rank by its upper-case name or by its variable.
    pub fn rank_named(&self, name: &str) -> Option<RankId> {
        self.ranks
            .iter()
            .position(|r| r.name == name || r.variable == name)
            .map(RankId)
    }

    /// The name of an Einsum: its output's.
    pub fn name_of(&self, id: EinsumId) -> &str {
        &self.tensor(self.einsum(id).output).name
    }
}
