//! Names of ranks and rank parts, and what expressions in a mapping may name.

use std::{cell::OnceCell, collections::BTreeMap};

use einflow_arch::Accelerator;
use einflow_spec::{Problem, Source, did_you_mean, expr::Expr};
use einflow_workloads::cascade::{Cascade, RankId, Sizes};

use crate::{
    mapped::{BaseRank, NamedLoop},
    nest::{Loop, Term},
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

impl Digit {
    /// Its value at a coordinate of the base rank.
    pub fn term(&self) -> Term {
        Term {
            rank: self.base,
            unit: self.unit,
            modulus: self.modulus,
            coefficient: 1,
        }
    }
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

    /// The loop over time that a name stands for: it has no more iterations than the whole rank has tiles, of which there
    /// may be fewer than of a finer part (M0 = 256 at M = 1).
    pub fn find_loop(&self, name: &Name, source: &Source) -> Result<NamedLoop, Problem> {
        let mut found = self.find(name, source)?;
        let part = self.parts.iter().find(|p| p.name == name.text);
        if let Some(part) = part {
            found.count = found
                .count
                .min(part.whole.div_ceil(part.step.max(1)).max(1));
            if found.count == 1 {
                found.cut.step = part.step.max(part.whole);
            }
        }
        Ok(found)
    }

    /// The loop, over time or lanes, that a name stands for.
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
            cut: Loop::new(part.base, step),
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
        // Only a mistake needs them.
        let names = OnceCell::new();
        expr.whole(self.source, &|n| self.lookup(n), &|| {
            let names = names.get_or_init(|| self.names());
            names.iter().map(String::as_str).collect()
        })
    }

    /// Every name that [`lookup`](Self::lookup) knows.
    fn names(&self) -> Vec<String> {
        let columns = self
            .row
            .into_iter()
            .flat_map(|r| r.columns().map(|c| format!("table.{c}")));
        self.found
            .keys()
            .chain(self.given.keys())
            .cloned()
            .chain(self.accelerator.names_for_lookup())
            .chain(columns)
            .collect()
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
