//! Which loops change which words.

use crate::{
    mapped::NamedLoop,
    nest::{Dim, Term, Wrapped},
};

impl NamedLoop {
    /// Whether a step of the loop changes a term's value at some point of it: whether `value(x)` and `value(x + step)`
    /// differ for a coordinate x that the loop walks.
    ///
    /// The loop's first coordinate begins a group of those that share a value (or all of the loop lies in one group), and
    /// its tiles are full, as [`NamedLoop::count`] has it. Where tiles are whole groups or groups whole tiles, that they
    /// are partial changes nothing.
    ///
    /// Derivation, for groups of `unit` coordinates and values that begin anew after `modulus` groups: without a modulus a
    /// value changes exactly where the loop passes the end of its first group. With one, a step of whole periods changes
    /// nothing; any other moves the first coordinate of a group, or the last ones, to another group of the same period.
    pub fn touches(&self, term: &Term) -> bool {
        let (step, unit) = (self.cut.step, term.unit.max(1));
        let returns = |modulus: u64| {
            let period = unit.saturating_mul(modulus.max(1));
            modulus <= 1 || step.is_multiple_of(period)
        };
        term.rank == self.cut.rank
            && term.coefficient != 0
            && self.count > 1
            && step.saturating_mul(self.count) > unit
            && !term.modulus.is_some_and(returns)
    }

    /// Whether a step of the loop changes the word that these dimensions name.
    ///
    /// Terms of one rank that are summed do not cancel each other where all rise: the first of them to change does so
    /// upwards. Where some fall, and of a wrapped sum, a loop that changes a part is taken to change the word.
    pub fn touches_any<'d>(&self, dims: impl IntoIterator<Item = &'d Dim>) -> bool {
        let mut dims = dims.into_iter();
        dims.any(|d| {
            d.terms.iter().any(|t| self.touches(t)) || d.wrapped.iter().any(|w| self.turns(w))
        })
    }

    /// Whether a step of the loop may change a digit of a sum: not where the sum moves by whole turns.
    fn turns(&self, wrapped: &Wrapped) -> bool {
        let of = &wrapped.of;
        let own = || of.terms.iter().filter(|t| t.rank == self.cut.rank);
        let even = |t: &Term| t.unit <= 1 && t.modulus.is_none();
        let whole = wrapped.modulus.is_some_and(|modulus| {
            let turn = i128::from(modulus) * i128::from(wrapped.unit.max(1));
            let by: i128 = own().map(|t| i128::from(t.coefficient)).sum();
            let moved = by.checked_mul(self.cut.step.into());
            own().all(even) && moved.is_some_and(|moved| moved % turn.max(1) == 0)
        });
        let inner = of.wrapped.iter().any(|w| self.turns(w));
        inner || !whole && of.terms.iter().any(|t| self.touches(t))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nest::Loop;

    /// Whether a step changes the word at a point of some tile around: by looking.
    fn seen(dims: &[Dim], size: u64, around: u64, step: u64) -> bool {
        let word = |x: u64| -> Vec<i128> {
            let value = |d: &Dim| d.terms.iter().map(|t| t.value(x)).sum();
            dims.iter().map(value).collect()
        };
        (0..size).step_by(around as usize).any(|start| {
            let end = (start + around).min(size);
            (start..end.saturating_sub(step)).any(|x| word(x) != word(x + step))
        })
    }

    fn terms() -> Vec<Term> {
        let mut out = Vec::new();
        for unit in 1..=4 {
            for modulus in [None, Some(1), Some(2), Some(3), Some(4)] {
                for coefficient in 0..=2 {
                    out.push(Term {
                        rank: 0,
                        unit,
                        modulus,
                        coefficient,
                    });
                }
            }
        }
        out
    }

    /// Holds all loops over a rank of up to 13 coordinates, in tiles of all sizes around, against looking.
    fn check(dims: &[Dim]) -> u32 {
        let terms = || dims.iter().flat_map(|d| &d.terms);
        let mut checked = 0;
        for size in 1..=13u64 {
            for around in 1..=size {
                // Every tile around begins with a group, or lies in one.
                if !terms().all(|t| around % t.unit == 0 || t.unit % around == 0 || around == size)
                {
                    continue;
                }
                for step in 1..=around {
                    let l = NamedLoop {
                        name: String::new(),
                        cut: Loop::new(0, step),
                        count: around.div_ceil(step),
                    };
                    let truth = seen(dims, size, around, step);
                    let full = around % step == 0;
                    let aligned = terms().all(|t| step % t.unit == 0 || t.unit % step == 0);
                    let found = l.touches_any(dims);
                    let at = format!("{dims:?}: {size} in {around} by {step}");
                    assert!(found || !truth, "missed: {at}");
                    assert!(truth || !found || !(full || aligned), "seen: {at}");
                    checked += 1;
                }
            }
        }
        checked
    }

    #[test]
    fn loops_touch_what_they_change() {
        let mut checked = 0;
        for term in terms() {
            checked += check(&[Dim::sum(vec![term])]);
        }
        assert!(checked > 10_000, "{checked}");
    }

    #[test]
    fn sums_and_several_dimensions_change_with_any_of_their_terms() {
        let all = terms();
        for a in &all {
            for b in &all {
                let sum = Dim::sum(vec![*a, *b]);
                check(&[sum]);
                let two = [*a, *b].map(|t| Dim::sum(vec![t]));
                check(&two);
            }
        }
    }

    #[test]
    fn a_loop_over_another_rank_touches_nothing() {
        let l = NamedLoop {
            name: String::new(),
            cut: Loop::new(1, 1),
            count: 8,
        };
        assert!(!l.touches(&Term::plain(0)) && l.touches(&Term::plain(1)));
    }
}
