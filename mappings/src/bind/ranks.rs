//! Names of ranks and rank parts, and coordinates as terms over base ranks.

use std::collections::BTreeMap;

use einflow_arch::Accelerator;
use einflow_spec::{
    Problem, Source, Span, did_you_mean,
    expr::{BinaryOp, Expr, UnaryOp},
};
use einflow_workloads::cascade::{Cascade, Index, RankId, Sizes, TensorId};

use crate::{
    mapped::{BaseRank, NamedLoop},
    nest::{Dim, Loop, Projection, Term},
    spec::{Name, Row},
};

/// A rank of the cascade as a digit of its base rank: `(x / unit) % modulus`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digit {
    pub base: usize,
    pub unit: u64,
    /// The rank's own size where a coarser digit stands above it.
    pub modulus: Option<u64>,
    /// The rank's size.
    pub size: u64,
}

/// The cascade's ranks at given sizes.
#[derive(Clone, Debug)]
pub(crate) struct Ranks {
    pub base: Vec<BaseRank>,
    /// By [`RankId`].
    pub digits: Vec<Digit>,
    pub sizes: Sizes,
}

impl Ranks {
    pub fn new(cascade: &Cascade, sizes: Sizes) -> Result<Self, Problem> {
        let missing =
            |name: &str| Problem::nowhere(format!("rank {name} of {} has no size", cascade.name));
        let size_of = |id: RankId| {
            sizes
                .get(&cascade.rank(id).name)
                .ok_or_else(|| missing(&cascade.rank(id).name))
        };
        let mut base = Vec::new();
        let mut digits: Vec<Option<Digit>> = vec![None; cascade.ranks.len()];
        let order = cascade
            .batch
            .iter()
            .copied()
            .chain((0..cascade.ranks.len()).map(RankId));
        for id in order {
            if digits[id.0].is_some() || cascade.partitions.iter().any(|p| p.parts.contains(&id)) {
                continue;
            }
            let index = base.len();
            let size = size_of(id)?;
            base.push(BaseRank {
                rank: id,
                name: cascade.rank(id).name.clone(),
                size,
            });
            digits[id.0] = Some(Digit {
                base: index,
                unit: 1,
                modulus: None,
                size,
            });
            if let Some(partition) = cascade.partitions.iter().find(|p| p.whole == id) {
                let mut unit = 1u64;
                for (i, part) in partition.parts.iter().enumerate().rev() {
                    let size = size_of(*part)?;
                    let modulus = (i > 0).then_some(size);
                    digits[part.0] = Some(Digit {
                        base: index,
                        unit,
                        modulus,
                        size,
                    });
                    unit = unit.checked_mul(size).ok_or_else(|| {
                        Problem::nowhere(format!(
                            "the parts of {} multiply to more than 2^64",
                            cascade.rank(id).name
                        ))
                    })?;
                }
            }
        }
        let digits = digits
            .into_iter()
            .enumerate()
            .map(|(i, d)| d.ok_or_else(|| missing(&cascade.ranks[i].name)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            base,
            digits,
            sizes,
        })
    }

    pub fn digit(&self, id: RankId) -> Digit {
        self.digits[id.0]
    }
}

/// The rank parts that loops of one block may name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    parts: Vec<Part>,
}

/// A rank part: which base rank it cuts, and how.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Upper case, as sizes name it.
    pub size_name: String,
    /// Lower case, as loops name it.
    pub name: String,
    pub base: usize,
    pub step: u64,
    pub count: u64,
    /// Coordinates of the base rank.
    pub whole: u64,
}

impl Parts {
    /// Splits as `splits` say, with sizes from `sizes`; the outermost part of each takes the rest.
    pub fn new(
        cascade: &Cascade,
        ranks: &Ranks,
        splits: &[&(Name, Vec<Name>)],
        sizes: &BTreeMap<String, u64>,
        source: &Source,
    ) -> Result<Self, Problem> {
        let mut parts = Vec::new();
        for (i, rank) in cascade.ranks.iter().enumerate() {
            let digit = ranks.digits[i];
            let is_whole = cascade.partitions.iter().any(|p| p.whole == RankId(i));
            let Some((_, names)) = splits
                .iter()
                .find(|(name, _)| name.text == rank.name || name.text == rank.variable)
            else {
                if !is_whole {
                    parts.push(Part {
                        size_name: rank.name.clone(),
                        name: rank.variable.clone(),
                        base: digit.base,
                        step: digit.unit,
                        count: digit.size,
                        whole: ranks.base[digit.base].size,
                    });
                }
                continue;
            };
            let mut inner = 1u64;
            for (position, part) in names.iter().enumerate().rev() {
                let count = if position == 0 {
                    digit.size.div_ceil(inner)
                } else {
                    *sizes.get(&part.text).ok_or_else(|| {
                        Problem::at(
                            source,
                            part.span,
                            format!("the part {} of {} has no size", part.text, rank.name),
                        )
                        .help(format!(
                            "give `{}` a size; only the outermost part follows from the others",
                            part.text
                        ))
                    })?
                };
                let step = digit.unit.checked_mul(inner);
                inner = inner.saturating_mul(count);
                let step = step.ok_or_else(|| {
                    Problem::at(
                        source,
                        part.span,
                        format!("the parts of {} multiply to more than 2^64", rank.name),
                    )
                })?;
                parts.push(Part {
                    size_name: part.text.clone(),
                    name: part.text.to_lowercase(),
                    base: digit.base,
                    step,
                    count,
                    whole: ranks.base[digit.base].size,
                });
            }
        }
        Ok(Self { parts })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter()
    }

    /// The loop that a name stands for.
    pub fn find(&self, name: &Name, source: &Source) -> Result<NamedLoop, Problem> {
        let part = self
            .parts
            .iter()
            .find(|p| p.name == name.text)
            .ok_or_else(|| {
                let help = match self.parts.iter().find(|p| p.size_name == name.text) {
                    Some(part) => format!("loops are named by the variable: `{}`", part.name),
                    None => did_you_mean(&name.text, self.parts.iter().map(|p| p.name.as_str())),
                };
                Problem::at(
                    source,
                    name.span,
                    format!("there is no rank part `{}`", name.text),
                )
                .help(help)
            })?;
        // A part of one coordinate cuts nothing, also where it stands outside the coarser parts.
        let step = if part.count > 1 {
            part.step
        } else {
            part.step.max(part.whole)
        };
        Ok(NamedLoop {
            name: part.name.clone(),
            cut: Loop {
                rank: part.base,
                step,
            },
            count: part.count,
        })
    }
}

/// What expressions in a mapping may name.
pub(crate) struct Scope<'a> {
    pub given: &'a BTreeMap<String, u64>,
    pub found: &'a BTreeMap<String, u64>,
    pub accelerator: &'a Accelerator,
    pub row: Option<&'a Row>,
    pub source: &'a Source,
}

impl Scope<'_> {
    fn lookup(&self, name: &str) -> Option<i128> {
        if let Some(column) = name.strip_prefix("table.") {
            return self.row?.get(column)?.trim().parse().ok();
        }
        let size = self.found.get(name).or_else(|| self.given.get(name));
        size.map(|v| i128::from(*v))
            .or_else(|| self.accelerator.lookup(name))
    }

    /// The value of a whole-number expression.
    pub fn whole(&self, expr: &Expr) -> Result<i128, Problem> {
        let names: Vec<String> = self
            .found
            .keys()
            .chain(self.given.keys())
            .cloned()
            .chain(self.accelerator.names_for_lookup())
            .chain(
                self.row
                    .into_iter()
                    .flat_map(|r| r.columns().map(|c| format!("table.{c}"))),
            )
            .collect();
        expr.whole(self.source, &|n| self.lookup(n), &|| {
            names.iter().map(String::as_str).collect()
        })
    }

    /// The value of a size: at least 1.
    pub fn size(&self, expr: &Expr) -> Result<u64, Problem> {
        let value = self.whole(expr)?;
        u64::try_from(value).ok().filter(|v| *v > 0).ok_or_else(|| {
            Problem::at(
                self.source,
                expr.span(),
                format!("`{expr}` is {value}, which is no size"),
            )
            .help("sizes are from 1 to 2^64 - 1")
        })
    }

    /// A share: a fraction from 0 to 1, a number or a column of the table.
    pub fn share(&self, expr: &Expr) -> Result<(u64, u64), Problem> {
        let fraction = match expr {
            Expr::Number { text, .. } => text.parse().ok().and_then(crate::spec::fraction_of),
            Expr::Name { name, .. } => name
                .strip_prefix("table.")
                .and_then(|column| self.row.and_then(|row| row.fraction(column))),
            _ => None,
        };
        fraction.filter(|(n, d)| n <= d).ok_or_else(|| {
            Problem::at(self.source, expr.span(), format!("`{expr}` is no share"))
                .help("a share is a number from 0 to 1, or `table.COLUMN` with such a number")
        })
    }
}

/// The projection of a tensor's own ranks (batch ranks in front): which word a point of the base
/// ranks touches when each rank variable is its own index.
pub(crate) fn own_projection(cascade: &Cascade, ranks: &Ranks, tensor: TensorId) -> Projection {
    let tensor = cascade.tensor(tensor);
    let dims = cascade
        .batch
        .iter()
        .chain(&tensor.ranks)
        .map(|r| plain_dim(ranks, *r))
        .collect();
    Projection { dims }
}

fn plain_dim(ranks: &Ranks, rank: RankId) -> Dim {
    let digit = ranks.digit(rank);
    Dim {
        terms: vec![Term {
            rank: digit.base,
            unit: digit.unit,
            modulus: digit.modulus,
            coefficient: 1,
        }],
    }
}

/// The projection of a read, with views resolved: the tensor that is really read, and its dims.
pub(crate) fn read_projection(
    cascade: &Cascade,
    ranks: &Ranks,
    tensor: TensorId,
    indices: &[Index],
) -> Result<(TensorId, Projection), Problem> {
    let mut dims: Vec<Dim> = cascade.batch.iter().map(|r| plain_dim(ranks, *r)).collect();
    let (base, indices) = resolve_views(cascade, tensor, indices.to_vec())?;
    for index in &indices {
        push_index(cascade, ranks, index, &mut dims)?;
    }
    Ok((base, Projection { dims }))
}

/// What some Einsums together see of a tensor, one projection where all their reads agree (a convolution's
/// I[p + r], grouped heads' K[m, h / G]); the error is whether they differ or there is none.
pub(crate) fn seen_projection(
    cascade: &Cascade,
    ranks: &Ranks,
    einsums: &mut dyn Iterator<Item = &einflow_workloads::cascade::Einsum>,
    tensor: TensorId,
) -> Result<Projection, bool> {
    let mut found: Option<Projection> = None;
    for read in einsums.flat_map(|e| &e.reads) {
        let Ok((read, projection)) = read_projection(cascade, ranks, read.tensor, &read.indices)
        else {
            continue;
        };
        if read != tensor {
            continue;
        }
        if found.as_ref().is_some_and(|f| *f != projection) {
            return Err(true);
        }
        found = Some(projection);
    }
    found.ok_or(false)
}

/// The tensor that a view stands for in the end; others stand for themselves.
pub(crate) fn viewed(cascade: &Cascade, tensor: TensorId) -> TensorId {
    let mut tensor = tensor;
    while let Some(producer) = cascade
        .tensor(tensor)
        .producer
        .map(|p| cascade.einsum(p))
        .filter(|e| e.view)
    {
        tensor = producer.reads[0].tensor;
    }
    tensor
}

/// Replaces a view by what it views, its indices composed.
fn resolve_views(
    cascade: &Cascade,
    tensor: TensorId,
    indices: Vec<Index>,
) -> Result<(TensorId, Vec<Index>), Problem> {
    let (mut tensor, mut indices) = (tensor, indices);
    while let Some(producer) = cascade
        .tensor(tensor)
        .producer
        .map(|p| cascade.einsum(p))
        .filter(|e| e.view)
    {
        let names: Vec<&str> = cascade
            .tensor(tensor)
            .ranks
            .iter()
            .map(|r| cascade.rank(*r).variable.as_str())
            .collect();
        let read = &producer.reads[0];
        let replaced = read
            .indices
            .iter()
            .map(|index| match index {
                Index::Expr(expr) => substitute(expr, &names, &indices).map(Index::Expr),
                Index::Gather(..) => Some(index.clone()),
            })
            .collect::<Option<Vec<_>>>();
        indices = replaced.ok_or_else(|| {
            Problem::at(
                &cascade.source,
                read.span,
                "a view of a gathered tensor cannot be mapped",
            )
        })?;
        tensor = read.tensor;
    }
    Ok((tensor, indices))
}

fn substitute(expr: &Expr, names: &[&str], by: &[Index]) -> Option<Expr> {
    Some(match expr {
        Expr::Name { name, .. } => match names.iter().position(|n| n == name) {
            Some(i) => match by.get(i)? {
                Index::Expr(replacement) => replacement.clone(),
                Index::Gather(..) => return None,
            },
            None => expr.clone(),
        },
        Expr::Unary { op, operand, span } => Expr::Unary {
            op: *op,
            operand: Box::new(substitute(operand, names, by)?),
            span: *span,
        },
        Expr::Binary {
            op,
            left,
            right,
            span,
        } => Expr::Binary {
            op: *op,
            left: Box::new(substitute(left, names, by)?),
            right: Box::new(substitute(right, names, by)?),
            span: *span,
        },
        Expr::Call {
            name,
            arguments,
            name_span,
            span,
        } => Expr::Call {
            name: name.clone(),
            arguments: arguments
                .iter()
                .map(|a| substitute(a, names, by))
                .collect::<Option<_>>()?,
            name_span: *name_span,
            span: *span,
        },
        _ => expr.clone(),
    })
}

fn push_index(
    cascade: &Cascade,
    ranks: &Ranks,
    index: &Index,
    dims: &mut Vec<Dim>,
) -> Result<(), Problem> {
    match index {
        Index::Expr(expr) => {
            let linear = linear(cascade, ranks, expr)?;
            let terms = linear
                .terms
                .iter()
                .map(|(term, factor)| {
                    u64::try_from(*factor).map(|coefficient| Term { coefficient, ..*term }).map_err(|_| {
                        Problem::at(&cascade.source, expr.span(), format!("the index `{expr}` falls as a rank variable rises"))
                            .help("a mapped cascade needs rising indices: turn the variable's direction around")
                    })
                })
                .collect::<Result<_, _>>()?;
            dims.push(Dim { terms });
        }
        // Where a gather lands is not known: each of its own points counts as a word of its own.
        Index::Gather(_, inner) => {
            for index in inner {
                push_index(cascade, ranks, index, dims)?;
            }
        }
    }
    Ok(())
}

/// A sum of digits with whole factors, and a constant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linear {
    pub terms: Vec<(Term, i128)>,
    pub constant: i128,
}

impl Linear {
    fn scaled(mut self, factor: i128) -> Option<Self> {
        for (_, f) in &mut self.terms {
            *f = f.checked_mul(factor)?;
        }
        self.constant = self.constant.checked_mul(factor)?;
        self.terms.retain(|(_, f)| *f != 0);
        Some(self)
    }

    pub fn plus(mut self, other: Self) -> Option<Self> {
        for (term, factor) in other.terms {
            let same =
                |t: &Term| (t.rank, t.unit, t.modulus) == (term.rank, term.unit, term.modulus);
            match self.terms.iter_mut().find(|(t, _)| same(t)) {
                Some((_, f)) => *f = f.checked_add(factor)?,
                None => self.terms.push((term, factor)),
            }
        }
        self.constant = self.constant.checked_add(other.constant)?;
        self.terms.retain(|(_, f)| *f != 0);
        Some(self.merged())
    }

    pub fn minus(self, other: Self) -> Option<Self> {
        self.plus(other.scaled(-1)?)
    }

    /// Joins digits of one rank that stand together: `m1 * M0 + m0` is `m`.
    fn merged(mut self) -> Self {
        loop {
            let joins = |(upper, u): &(Term, i128), (lower, l): &(Term, i128)| {
                upper.rank == lower.rank
                    && lower.modulus.is_some_and(|m| {
                        lower.unit.checked_mul(m) == Some(upper.unit)
                            && l.checked_mul(i128::from(m)) == Some(*u)
                    })
            };
            let found = (0..self.terms.len()).find_map(|i| {
                (0..self.terms.len())
                    .find(|&j| joins(&self.terms[i], &self.terms[j]))
                    .map(|j| (i, j))
            });
            let Some((i, j)) = found else { return self };
            let upper = self.terms[i].0;
            let lower = &mut self.terms[j].0;
            lower.modulus = upper
                .modulus
                .and_then(|u| lower.modulus.and_then(|l| l.checked_mul(u)));
            self.terms.remove(i);
        }
    }
}

/// An index or a side of a condition as a sum of digits.
pub(crate) fn linear(cascade: &Cascade, ranks: &Ranks, expr: &Expr) -> Result<Linear, Problem> {
    let unmapped = |span: Span| {
        Problem::at(
            &cascade.source,
            span,
            format!("`{expr}` is no sum of rank variables with whole factors"),
        )
        .help("a mapped cascade needs affine indices, v / c or v % c")
    };
    let overflow = |span: Span| Problem::at(&cascade.source, span, "the value overflows 128 bits");
    match expr {
        Expr::Number { text, span } => {
            let constant = text.replace('_', "").parse().map_err(|_| unmapped(*span))?;
            Ok(Linear {
                terms: Vec::new(),
                constant,
            })
        }
        Expr::Name { name, span } => {
            if let Some(i) = cascade.ranks.iter().position(|r| r.variable == *name) {
                let digit = ranks.digits[i];
                let term = Term {
                    rank: digit.base,
                    unit: digit.unit,
                    modulus: digit.modulus,
                    coefficient: 1,
                };
                return Ok(Linear {
                    terms: vec![(term, 1)],
                    constant: 0,
                });
            }
            let size = ranks.sizes.get(name).ok_or_else(|| unmapped(*span))?;
            Ok(Linear {
                terms: Vec::new(),
                constant: i128::from(size),
            })
        }
        Expr::Unary {
            op: UnaryOp::Neg,
            operand,
            span,
        } => linear(cascade, ranks, operand)?
            .scaled(-1)
            .ok_or_else(|| overflow(*span)),
        Expr::Binary {
            op,
            left,
            right,
            span,
        } => {
            let (left, right) = (
                linear(cascade, ranks, left)?,
                linear(cascade, ranks, right)?,
            );
            let value = match op {
                BinaryOp::Add => left.plus(right),
                BinaryOp::Sub => left.minus(right),
                BinaryOp::Mul if right.terms.is_empty() => left.scaled(right.constant),
                BinaryOp::Mul if left.terms.is_empty() => right.scaled(left.constant),
                BinaryOp::Div | BinaryOp::Rem if right.terms.is_empty() && right.constant > 0 => {
                    return cut_digit(&left, *op, right.constant).ok_or_else(|| unmapped(*span));
                }
                _ => return Err(unmapped(*span)),
            };
            value.ok_or_else(|| overflow(*span))
        }
        // A function of sizes alone, such as ceil(H / G).
        _ => {
            let constant = expr
                .whole(
                    &cascade.source,
                    &|name| ranks.sizes.get(name).map(i128::from),
                    &Vec::new,
                )
                .map_err(|_| unmapped(expr.span()))?;
            Ok(Linear {
                terms: Vec::new(),
                constant,
            })
        }
    }
}

/// `x / by` or `x % by` of one digit.
fn cut_digit(value: &Linear, op: BinaryOp, by: i128) -> Option<Linear> {
    if value.terms.is_empty() {
        let constant = match op {
            BinaryOp::Div => einflow_spec::expr::floor_div(value.constant, by)?,
            _ => value.constant.checked_rem_euclid(by)?,
        };
        return Some(Linear {
            terms: Vec::new(),
            constant,
        });
    }
    let ([(term, 1)], 0) = (value.terms.as_slice(), value.constant) else {
        return None;
    };
    let by = u64::try_from(by).ok()?;
    let whole = |m: u64| m.is_multiple_of(by).then_some(());
    let term = match op {
        BinaryOp::Div => {
            let modulus = match term.modulus {
                Some(m) => {
                    whole(m)?;
                    Some(m / by)
                }
                None => None,
            };
            Term {
                unit: term.unit.checked_mul(by)?,
                modulus,
                ..*term
            }
        }
        _ => {
            if let Some(m) = term.modulus {
                whole(m)?;
            }
            Term {
                modulus: Some(by),
                ..*term
            }
        }
    };
    Some(Linear {
        terms: vec![(term, 1)],
        constant: 0,
    })
}
