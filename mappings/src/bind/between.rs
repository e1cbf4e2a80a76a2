//! Words that arrays make and use without a memory between: over a link between two, or in the PE that has them.

use einflow_arch::{Direction, Link};

use super::{
    homes::Operand,
    links::{Check, Dimension, Fault, Passed, Takers, Way},
};
use crate::{
    mapped::{BoundEinsum, NamedLoop},
    nest::Dim,
};

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Right => Direction::Left,
        Direction::Left => Direction::Right,
        Direction::Down => Direction::Up,
        Direction::Up => Direction::Down,
    }
}

/// The lane of a dimension, where different PEs along it have different words of a tensor.
fn divided<'e>(
    einsum: &'e BoundEinsum,
    dims: &[Dim],
    dimension: Dimension,
) -> Option<&'e NamedLoop> {
    dimension.lane(einsum).filter(|l| l.touches_any(dims))
}

impl Check<'_, '_> {
    /// An operand over a link from the array that makes it.
    pub(super) fn forwarded(
        &self,
        writer: &BoundEinsum,
        reader: &BoundEinsum,
        operand: &Operand<'_>,
    ) -> Result<Vec<Way>, Fault> {
        let (from, to) = (&self.array(writer.unit).name, &self.array(reader.unit).name);
        let made = &self.homes.context.projections.own(operand.tensor).dims;
        let tensor = self.homes.name(operand.tensor);
        let out = self
            .links(writer.unit)
            .filter(|(_, l)| l.to.as_ref() == Some(to))
            .map(|(i, l)| (writer.unit, i, l));
        let into = self
            .links(reader.unit)
            .filter(|(_, l)| l.from.as_ref() == Some(from))
            .map(|(i, l)| (reader.unit, i, l));
        let (mut ways, mut fault) = (Vec::new(), None);
        for (owner, index, link) in out.chain(into) {
            // It joins equal columns, or equal rows.
            let across = Dimension::of(link.direction).other();
            let (left, right) = (
                divided(writer, made, across),
                divided(reader, operand.dims, across),
            );
            let found = if left != right {
                Err((
                    format!(
                        "{} takes {tensor} from {from} over `{}`, which joins equal {}, but {} has {} there and {} has {}",
                        reader.name,
                        link.name,
                        across.name(),
                        writer.name,
                        laid(left),
                        reader.name,
                        laid(right)
                    ),
                    format!("lay both alike, or keep {tensor} in a memory and take it from there"),
                ))
            } else {
                self.reach_edge(writer, made, link, tensor)
                    .and_then(|(_, passed)| {
                        // In the reader's step only what it takes in that step passes.
                        let (entering, mut way) =
                            self.arrive(reader, operand.dims, link, tensor, Takers::All)?;
                        way.extend(passed.into_iter().map(|p| Passed {
                            words: entering.words,
                            ..p
                        }));
                        way.push(entering.over(owner, index));
                        Ok(way)
                    })
            };
            match found {
                Ok(way) => ways.push(way),
                Err(why) => fault = fault.or(Some(why)),
            }
        }
        match fault {
            Some(fault) if ways.is_empty() => Err(fault),
            // That no link joins the arrays is reported with the movements.
            _ if ways.is_empty() => Ok(vec![Vec::new()]),
            _ => Ok(ways),
        }
    }

    /// A word that stays in an array must be where its reader looks for it: where it was made, or `read` before.
    pub(super) fn handed_over(
        &self,
        writer: &BoundEinsum,
        read: Option<&[Dim]>,
        reader: &BoundEinsum,
        operand: &Operand<'_>,
    ) -> Result<(), Fault> {
        let unit = writer.unit;
        let array = &self.array(unit).name;
        let tensor = self.homes.name(operand.tensor);
        let makes = self.homes.output(writer) == operand.tensor;
        let own = &self.homes.context.projections.own(operand.tensor).dims;
        let made = read.unwrap_or(own);
        for dimension in [Dimension::Rows, Dimension::Columns] {
            let (left, right) = (
                divided(writer, made, dimension),
                divided(reader, operand.dims, dimension),
            );
            let neighbour = |good: &dyn Fn(&Link) -> bool| {
                self.neighbours(unit)
                    .any(|(_, l)| Dimension::of(l.direction) == dimension && good(l))
            };
            // Where each PE uses the word that it has: of p + 1 it is the neighbour's, of a roll another's.
            let own = |lane: &NamedLoop| {
                let mut dims = made.iter().zip(operand.dims);
                dims.all(|(made, used)| made == used || !lane.touches_any([made, used]))
            };
            let passed = match (left, right) {
                (Some(a), Some(b)) => a == b && own(a),
                // It comes to the one row or column that works, in turn.
                (Some(_), None) => dimension.lane(reader).is_none() && neighbour(&|_| true),
                (None, Some(_)) => false,
                (None, None) => match (dimension.lane(writer), dimension.lane(reader)) {
                    (_, None) => true,
                    // A sum ends where its link does, and comes back the other way.
                    (Some(_), Some(_)) if makes => self.neighbours(unit).any(|(_, sum)| {
                        sum.reduce
                            && neighbour(&|back| {
                                back.multicast && back.direction == opposite(sum.direction)
                            })
                    }),
                    (Some(_), Some(_)) => true,
                    (None, Some(_)) => neighbour(&|l| l.multicast),
                },
            };
            if !passed {
                let has = |e: &BoundEinsum, divided: Option<&NamedLoop>| match dimension.lane(e) {
                    Some(lane) if divided.is_none() => {
                        format!("`{}`, of which it has one word", lane.name)
                    }
                    lane => laid(lane),
                };
                return Err((
                    format!(
                        "{} takes {tensor} from the registers of {array}, where {} has {} across the {} and {} has {}",
                        reader.name,
                        writer.name,
                        has(writer, left),
                        dimension.name(),
                        reader.name,
                        has(reader, right)
                    ),
                    format!("lay both alike, or keep {tensor} in a memory and take it from there"),
                ));
            }
        }
        Ok(())
    }
}

fn laid(lane: Option<&NamedLoop>) -> String {
    lane.map_or_else(|| "one".into(), |l| format!("`{}`", l.name))
}
