//! Einsums around a recurrence that step through its rank with it.
//!
//! Of what one step hands to another nothing outlives the step: it takes the room of one. So the length of a recurrence
//! bears on the memory of a run by its inputs and outputs alone.

use super::{
    Kept,
    layout::Layouts,
    presence::Presence,
    schedule::{Component, Member, read_by},
};
use crate::cascade::{Cascade, EinsumId, Index, RankId, TensorId};
use einflow_spec::expr::{BinaryOp, Expr};

/// Points of a step that an Einsum has on average, for which stepping costs little beside computing.
const WORTH: u128 = 64;

/// Joins recurrences with the components beside them in the order, where these have the same rank and read each other at
/// the same step.
pub(super) fn join(
    cascade: &Cascade,
    layouts: &Layouts,
    presences: &[Vec<Presence>],
    components: Vec<Component>,
) -> Vec<Component> {
    let mut out: Vec<Component> = Vec::new();
    let mut rest = components.into_iter().peekable();
    while let Some(mut component) = rest.next() {
        let Some(rank) = component.steps else {
            out.push(component);
            continue;
        };
        let joins = Joins {
            cascade,
            presences,
            rank,
        };
        let mut before = Vec::new();
        while let Some(last) = out.pop_if(|last| {
            let all = before.iter().rev().flat_map(|c: &Component| &c.einsums);
            joins.fits(last) && joins.in_step(last, all.chain(&component.einsums))
        }) {
            before.push(last);
        }
        let mut behind = Vec::new();
        while let Some(next) = rest.next_if(|next| {
            let all = before.iter().rev().chain([&component]).chain(&behind);
            joins.fits(next) && joins.in_step(next, all.flat_map(|c: &Component| &c.einsums))
        }) {
            behind.push(next);
        }
        let added = || before.iter().chain(&behind).flat_map(|c| &c.einsums);
        let points: u128 = added().map(|m| joins.points(layouts, m.id)).sum();
        if points >= WORTH * added().count() as u128 {
            let first = before.into_iter().rev().flat_map(|c| c.einsums);
            let own = std::mem::take(&mut component.einsums);
            let then = behind.into_iter().flat_map(|c| c.einsums);
            component.einsums = first.chain(own).chain(then).collect();
            out.push(component);
        } else {
            out.extend(before.into_iter().rev());
            out.push(component);
            out.extend(behind);
        }
    }
    out
}

/// Gives what is made and read in steps of one component, and not kept, the room of one step.
pub(super) fn narrow(
    cascade: &Cascade,
    layouts: &mut Layouts,
    presences: &[Vec<Presence>],
    components: &[Component],
    kept: Kept<'_>,
) {
    for (i, component) in components.iter().enumerate() {
        let Some(rank) = component.steps else {
            continue;
        };
        let joins = Joins {
            cascade,
            presences,
            rank,
        };
        for member in &component.einsums {
            let made = cascade.einsum(member.id).output;
            let tensor = cascade.tensor(made);
            let axis = tensor.ranks.iter().position(|r| *r == rank);
            let (Some(axis), None) = (axis, tensor.iterative) else {
                continue;
            };
            let mut readers = components.iter().enumerate().flat_map(|(at, c)| {
                let each = c.einsums.iter();
                each.map(move |reader| (at, reader.id))
            });
            let within = readers.all(|(at, reader)| {
                let reads = joins.reads(reader, made);
                !reads || at == i && joins.at_step(reader, made)
            });
            if within && !kept.holds(cascade, made) {
                layouts.narrow(made.0, axis);
            }
        }
    }
}

/// What may step through a rank together.
struct Joins<'a> {
    cascade: &'a Cascade,
    presences: &'a [Vec<Presence>],
    rank: RankId,
}

impl Joins<'_> {
    /// Whether a component's Einsums all step through the rank, alone or in a recurrence.
    fn fits(&self, component: &Component) -> bool {
        let has = |member: &Member| {
            let einsum = self.cascade.einsum(member.id);
            let made = self.cascade.tensor(einsum.output);
            made.ranks.contains(&self.rank)
                && einsum.ranks.contains(&self.rank)
                && !einsum.reduced.contains(&self.rank)
        };
        component.steps.is_none_or(|rank| rank == self.rank) && component.einsums.iter().all(has)
    }

    /// Whether what a component and others make is read between them at the step in which it is made.
    fn in_step<'m>(
        &self,
        component: &Component,
        mut others: impl Iterator<Item = &'m Member>,
    ) -> bool {
        others.all(|other| {
            component.einsums.iter().all(|own| {
                let of = |a: &Member, b: &Member| {
                    let made = self.cascade.einsum(b.id).output;
                    !self.reads(a.id, made) || self.at_step(a.id, made)
                };
                of(own, other) && of(other, own)
            })
        })
    }

    fn reads(&self, einsum: EinsumId, tensor: TensorId) -> bool {
        let mut found = false;
        read_by(self.cascade, einsum, self.presences, &mut |t| {
            found |= t == tensor;
        });
        found
    }

    /// Whether an Einsum reads a tensor at its own coordinate of the rank, or of a running value at the one that the step
    /// makes, and nowhere else.
    fn at_step(&self, einsum: EinsumId, tensor: TensorId) -> bool {
        let of = self.cascade.tensor(tensor);
        let variable = &self.cascade.rank(self.rank).variable;
        let Some(axis) = of.ranks.iter().position(|r| *r == self.rank) else {
            return false;
        };
        let own = |expr: &Expr| matches!(expr, Expr::Name { name, .. } if name == variable);
        let made = |expr: &Expr| {
            let Expr::Binary {
                op: BinaryOp::Add,
                left,
                right,
                ..
            } = expr
            else {
                return false;
            };
            own(left) && matches!(&**right, Expr::Number { text, .. } if text == "1")
        };
        let mut plain = 0;
        for read in &self.cascade.einsum(einsum).reads {
            if read.tensor != tensor {
                continue;
            }
            let Some(Index::Expr(expr)) = read.indices.get(axis) else {
                return false;
            };
            let running = of.iterative == Some(axis);
            plain += usize::from(own(expr) || running && made(expr));
        }
        // Other reads are those of gathers.
        let mut all = 0;
        read_by(self.cascade, einsum, self.presences, &mut |t| {
            all += usize::from(t == tensor);
        });
        plain == all
    }

    /// Points of an Einsum in a step.
    fn points(&self, layouts: &Layouts, einsum: EinsumId) -> u128 {
        let ranks = &self.cascade.einsum(einsum);
        let ranks = ranks.ranks.iter().chain(&ranks.reduced);
        let other = ranks.filter(|r| **r != self.rank);
        other.map(|r| layouts.extent(*r) as u128).product()
    }
}
