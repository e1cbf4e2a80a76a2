//! Where the value of an Einsum's map is empty, as its operators have it.
//!
//! A product intersects: it needs every operand. A sum, difference, maximum or minimum unites: it needs one of
//! the operands that *decide*, which are those that carry all of the Einsum's ranks. What is repeated along a rank
//! (`GM[p]` beside `QK[m, p]`, a constant) has a word everywhere along it and makes no points of its own.

use std::collections::BTreeSet;

use crate::cascade::{Cascade, Einsum, Function, Map, RankId};

impl Function {
    /// Whether it has a value where one of its operands is empty.
    pub fn unites(self) -> bool {
        matches!(
            self,
            Function::Add | Function::Sub | Function::Max | Function::Min
        )
    }
}

impl Einsum {
    /// By operand of a function that [unites](Function::unites): whether its words decide where the function has a
    /// value. Those decide that carry every rank; where none does, all that read a tensor.
    pub(crate) fn deciding<'a>(
        &self,
        operands: &[Map],
        variable: &dyn Fn(RankId) -> &'a str,
    ) -> Vec<bool> {
        let carried: Vec<_> = operands.iter().map(|o| self.carried(o, variable)).collect();
        let whole =
            |c: &Option<BTreeSet<RankId>>| c.as_ref().is_some_and(|c| c.len() == self.ranks.len());
        let one_is = carried.iter().any(whole);
        let decides = |c| if one_is { whole(c) } else { c.is_some() };
        carried.iter().map(decides).collect()
    }

    /// The ranks of which an expression has words of its own; none where it reads no tensor.
    fn carried<'a>(
        &self,
        map: &Map,
        variable: &dyn Fn(RankId) -> &'a str,
    ) -> Option<BTreeSet<RankId>> {
        match map {
            Map::Constant(_) | Map::Coordinate(_) => None,
            Map::Read(number) => {
                let named = |rank: &&RankId| {
                    let indices = &self.reads[*number].indices;
                    indices.iter().any(|index| index.names(variable(**rank)))
                };
                Some(self.ranks.iter().filter(named).copied().collect())
            }
            Map::Apply(function, operands) => {
                let carried = operands.iter().filter_map(|o| self.carried(o, variable));
                carried.reduce(|a, b| {
                    let whole = [&a, &b].iter().any(|c| c.len() == self.ranks.len());
                    if function.unites() && !whole {
                        a.intersection(&b).copied().collect()
                    } else {
                        a.union(&b).copied().collect()
                    }
                })
            }
        }
    }
}

impl Cascade {
    /// By operand from the second on, of a function of an Einsum: whether what stands left of it may be missing, and
    /// whether it may. What decides (carries every rank) may be missing where something else that does is there.
    pub fn may_miss(
        &self,
        einsum: &Einsum,
        function: Function,
        operands: &[Map],
    ) -> Vec<[bool; 2]> {
        let decides = einsum.deciding(operands, &|rank| &self.rank(rank).variable);
        let pair = |right: usize| {
            let (left, right) = (decides[..right].contains(&true), decides[right]);
            [!left || right, !right || left].map(|may| may && function.unites())
        };
        (1..operands.len()).map(pair).collect()
    }

    /// Whether an Einsum's value is empty wherever one of its reads is.
    pub fn needs(&self, einsum: &Einsum, map: &Map, read: usize) -> bool {
        match map {
            Map::Read(number) => *number == read,
            Map::Constant(_) | Map::Coordinate(_) => false,
            Map::Apply(function, operands) if function.unites() => {
                let decides = einsum.deciding(operands, &|rank| &self.rank(rank).variable);
                let mut deciding = operands.iter().zip(decides).filter(|(_, d)| *d).peekable();
                deciding.peek().is_some() && deciding.all(|(o, _)| self.needs(einsum, o, read))
            }
            Map::Apply(_, operands) => operands.iter().any(|o| self.needs(einsum, o, read)),
        }
    }
}
