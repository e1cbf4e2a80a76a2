//! Links: how operands reach the PEs that use them, how sums form across PEs, and how results leave.

use einflow_arch::{Array, Direction, Link};

use super::homes::{Homes, Operand, Origin};
use crate::{
    count::Count,
    mapped::{BoundEinsum, NamedLoop},
    nest::Dim,
};

/// A dimension of an array: words move along its rows' index going down or up, along its columns' going right or left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension {
    Rows,
    Columns,
}

impl Dimension {
    fn of(direction: Direction) -> Self {
        match direction {
            Direction::Down | Direction::Up => Self::Rows,
            Direction::Right | Direction::Left => Self::Columns,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Rows => Self::Columns,
            Self::Columns => Self::Rows,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Columns => "columns",
        }
    }

    /// A direction in which words move along it.
    fn way(self) -> &'static str {
        match self {
            Self::Rows => "down",
            Self::Columns => "right",
        }
    }

    pub(super) fn lane(self, einsum: &BoundEinsum) -> Option<&NamedLoop> {
        let lane = match self {
            Self::Rows => &einsum.rows,
            Self::Columns => &einsum.columns,
        };
        lane.as_ref().filter(|l| l.count > 1)
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Right => Direction::Left,
        Direction::Left => Direction::Right,
        Direction::Down => Direction::Up,
        Direction::Up => Direction::Down,
    }
}

/// What words of a tensor pass on their way, link by link.
pub(super) type Way = Vec<Passed>;

/// What words pass of one family of links.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    /// The array, and which of its links.
    pub unit: usize,
    pub link: usize,
    /// Words that one value of the tensor for each PE puts on a single link, the busiest.
    pub words: u64,
    /// Links that each word passes, on average over all tiles; of a sum, for each PE that adds to it.
    pub hops: Count,
}

/// Words that come to an array over a link.
struct Entering {
    /// On a single link of the family.
    words: u64,
    /// Links of the family that each word passes.
    hops: Count,
}

impl Entering {
    fn over(&self, unit: usize, link: usize) -> Passed {
        Passed {
            unit,
            link,
            words: self.words,
            hops: self.hops,
        }
    }
}

/// Of two averages that do not depend on each other.
pub(super) fn product(a: Count, b: Count) -> Count {
    let both = a.times(b.numerator()).and_then(|c| c.over(b.denominator()));
    both.unwrap_or(a)
}

/// A refusal: what is missing, and what would do.
pub(super) type Fault = (String, String);

/// The lane of a dimension, where different PEs along it have different words of a tensor.
fn divided<'e>(
    einsum: &'e BoundEinsum,
    dims: &[Dim],
    dimension: Dimension,
) -> Option<&'e NamedLoop> {
    dimension.lane(einsum).filter(|l| l.touches_any(dims))
}

/// What links an Einsum's words have.
pub(super) struct Check<'a, 'h> {
    pub(super) homes: &'h Homes<'a>,
}

impl Check<'_, '_> {
    pub(super) fn array(&self, unit: usize) -> &Array {
        &self.homes.context.accelerator.arrays[unit]
    }

    fn links(&self, unit: usize) -> impl Iterator<Item = (usize, &Link)> {
        self.array(unit).links.iter().enumerate()
    }

    /// Links between neighbours.
    fn neighbours(&self, unit: usize) -> impl Iterator<Item = (usize, &Link)> {
        self.links(unit)
            .filter(|(_, l)| l.from.is_none() && l.to.is_none())
    }

    /// Whether a name is that of a memory through which the words of another one pass on their way to the arrays: itself, or
    /// one further in.
    fn passes(&self, name: Option<&String>, memory: usize) -> bool {
        let memories = &self.homes.context.accelerator.memories;
        name.is_some_and(|name| memories[memory..].iter().any(|m| m.name == *name))
    }

    /// The memory at the arrays, through which all words pass.
    fn innermost(&self) -> &str {
        let memories = &self.homes.context.accelerator.memories;
        memories.last().map_or("", |m| m.name.as_str())
    }

    pub(super) fn operand(
        &self,
        nest: usize,
        einsum: &BoundEinsum,
        operand: &Operand<'_>,
    ) -> Result<Vec<Way>, Fault> {
        let tensor = self.homes.name(operand.tensor);
        let unit = einsum.unit;
        // What registers keep is where the first Einsum that uses it there has it.
        if let Some((keep, _)) = self.homes.registers(nest, operand.tensor, unit) {
            let first = self.homes.einsums().find(|(n, p, e)| {
                let same = self.homes.registers(*n, operand.tensor, unit);
                let reads = || self.homes.operands(*n, *p);
                e.unit == unit
                    && same.is_some_and(|(k, _)| std::ptr::eq(k, keep))
                    && (self.homes.output(e) == operand.tensor
                        || reads().iter().any(|o| o.tensor == operand.tensor))
            });
            if let Some((n, p, first)) = first.filter(|(_, _, f)| f.einsum != einsum.einsum) {
                let reads = self.homes.operands(n, p);
                let read = reads.iter().find(|o| o.tensor == operand.tensor);
                let read = read.filter(|_| self.homes.output(first) != operand.tensor);
                self.handed_over(first, read.map(|o| o.dims), einsum, operand)?;
            }
        }
        match operand.origin {
            Origin::Kept(writer) | Origin::Made(writer) if writer.unit == unit => {
                self.handed_over(writer, None, einsum, operand)?;
                Ok(vec![Vec::new()])
            }
            Origin::Kept(_) => Ok(vec![Vec::new()]),
            Origin::Made(writer) => self.forwarded(writer, einsum, operand),
            Origin::Memory(memory) => {
                let memory_name = &self.homes.context.accelerator.memories[memory].name;
                let array = self.array(unit);
                let feeders = self
                    .links(unit)
                    .filter(|(_, l)| self.passes(l.from.as_ref(), memory));
                let mut ways = Vec::new();
                let mut fault = None;
                for (index, link) in feeders {
                    match self.arrive(einsum, operand.dims, link, tensor) {
                        Ok((entering, mut way)) => {
                            way.push(entering.over(unit, index));
                            ways.push(way);
                        }
                        Err(why) => fault = fault.or(Some(why)),
                    }
                }
                if ways.is_empty() {
                    return Err(fault.unwrap_or_else(|| {
                        (
                            format!("{} on {} reads {tensor} from `{memory_name}`, and no link of {} comes from there", einsum.name, array.name, array.name),
                            format!("give {} a link with `from: {:?}`", array.name, self.innermost()),
                        )
                    }));
                }
                Ok(ways)
            }
        }
    }

    /// What words need that enter an array over `link`: to be passed on to all PEs of their lanes. With the words on each single link of the family.
    fn arrive(
        &self,
        einsum: &BoundEinsum,
        dims: &[Dim],
        link: &Link,
        tensor: &str,
    ) -> Result<(Entering, Way), Fault> {
        let unit = einsum.unit;
        let array = &self.array(unit).name;
        let (along, across) = (
            Dimension::of(link.direction),
            Dimension::of(link.direction).other(),
        );
        let mut way = Way::new();
        let mut entering = Entering {
            words: 1,
            hops: Count::whole(1),
        };
        // PEs along the first dimension that a word comes to.
        let mut places = Count::whole(1);
        if let Some(lane) = along.lane(einsum) {
            let own = lane.touches_any(dims);
            let filled = self.filled(einsum, lane);
            let on = self
                .neighbours(unit)
                .find(|(_, l)| l.direction == link.direction && (own || l.multicast));
            match on {
                Some((link, _)) => way.push(Passed {
                    unit,
                    link,
                    words: if own { lane.count - 1 } else { 1 },
                    hops: if own { filled.apart } else { filled.further },
                }),
                None if link.multicast => entering.hops = filled.lanes,
                None => {
                    let what = if own { "a link" } else { "a multicast link" };
                    return Err((
                        format!(
                            "{} lays `{}` across the {} of {array}, and {what} is missing that takes {tensor} from `{}` to each of them",
                            einsum.name,
                            lane.name,
                            along.name(),
                            link.name
                        ),
                        format!(
                            "give {array} a link with `direction: {}{}`",
                            link.direction.name(),
                            if own { "" } else { ", multicast: true" }
                        ),
                    ));
                }
            }
            if own {
                entering.words = lane.count;
            } else {
                places = filled.lanes;
            }
        }
        if let Some(lane) = across.lane(einsum).filter(|l| !l.touches_any(dims)) {
            let on = self
                .neighbours(unit)
                .find(|(_, l)| Dimension::of(l.direction) == across && l.multicast);
            match on {
                Some((link, _)) => way.push(Passed {
                    unit,
                    link,
                    words: 1,
                    hops: product(places, self.filled(einsum, lane).further),
                }),
                None => {
                    return Err((
                        format!(
                            "{} lays `{}` across the {} of {array}, and no multicast link takes the same word of {tensor} to all of them",
                            einsum.name,
                            lane.name,
                            across.name()
                        ),
                        format!(
                            "give {array} a link with `direction: {}, multicast: true`",
                            across.way()
                        ),
                    ));
                }
            }
        }
        Ok((entering, way))
    }

    /// An operand over a link from the array that makes it.
    fn forwarded(
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
                            self.arrive(reader, operand.dims, link, tensor)?;
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

    /// What results need that leave an array over `link`: to be passed on to its edge.
    fn reach_edge(
        &self,
        einsum: &BoundEinsum,
        dims: &[Dim],
        link: &Link,
        tensor: &str,
    ) -> Result<(u64, Way), Fault> {
        let along = Dimension::of(link.direction);
        let Some(lane) = along.lane(einsum) else {
            return Ok((1, Way::new()));
        };
        let unit = einsum.unit;
        let Some((index, _)) = self
            .neighbours(unit)
            .find(|(_, l)| l.direction == link.direction)
        else {
            let array = &self.array(unit).name;
            return Err((
                format!(
                    "{} lays `{}` across the {} of {array}, and no link takes {tensor} from each of them to `{}`",
                    einsum.name,
                    lane.name,
                    along.name(),
                    link.name
                ),
                format!(
                    "give {array} a link with `direction: {}`",
                    link.direction.name()
                ),
            ));
        };
        Ok(if lane.touches_any(dims) {
            let passed = Passed {
                unit,
                link: index,
                words: lane.count - 1,
                hops: self.filled(einsum, lane).apart,
            };
            (lane.count, vec![passed])
        } else {
            // The sum passes over the link on which it forms.
            (1, Way::new())
        })
    }

    /// A result that lanes share forms along them.
    pub(super) fn sum(
        &self,
        einsum: &BoundEinsum,
        dims: &[Dim],
        dimension: Dimension,
    ) -> Result<Vec<Way>, Fault> {
        let Some(lane) = dimension.lane(einsum).filter(|l| !l.touches_any(dims)) else {
            return Ok(vec![Vec::new()]);
        };
        let unit = einsum.unit;
        // Sums down the rows go on along the columns, once for each of these.
        let mut hops = self.filled(einsum, lane).sums;
        if dimension == Dimension::Columns
            && let Some(rows) = Dimension::Rows
                .lane(einsum)
                .filter(|l| !l.touches_any(dims))
        {
            let lanes = self.filled(einsum, rows).lanes;
            let each = Count::ratio(lanes.denominator(), lanes.numerator());
            hops = product(hops, each.unwrap_or(Count::whole(1)));
        }
        let ways: Vec<Way> = self
            .neighbours(unit)
            .filter(|(_, l)| l.reduce && Dimension::of(l.direction) == dimension)
            .map(|(link, _)| {
                let words = 1;
                vec![Passed {
                    unit,
                    link,
                    words,
                    hops,
                }]
            })
            .collect();
        if ways.is_empty() {
            let array = &self.array(unit).name;
            return Err((
                format!(
                    "{} reduces over `{}` across the {} of {array}, and no link adds along them",
                    einsum.name,
                    lane.name,
                    dimension.name()
                ),
                format!(
                    "give {array} a link with `direction: {}, reduce: true`, or walk `{}` in a loop",
                    dimension.way(),
                    lane.name
                ),
            ));
        }
        Ok(ways)
    }

    /// Results on their way to a memory.
    pub(super) fn leave(
        &self,
        einsum: &BoundEinsum,
        dims: &[Dim],
        memory: usize,
    ) -> Result<Vec<Way>, Fault> {
        let unit = einsum.unit;
        let tensor = self.homes.name(self.homes.output(einsum));
        let (mut ways, mut fault) = (Vec::new(), None);
        for (index, link) in self
            .links(unit)
            .filter(|(_, l)| self.passes(l.to.as_ref(), memory))
        {
            match self.reach_edge(einsum, dims, link, tensor) {
                Ok((words, mut way)) => {
                    way.push(Passed {
                        unit,
                        link: index,
                        words,
                        hops: Count::whole(1),
                    });
                    ways.push(way);
                }
                Err(why) => fault = fault.or(Some(why)),
            }
        }
        if ways.is_empty() {
            return Err(fault.unwrap_or_else(|| {
                let array = &self.array(unit).name;
                let memory = &self.homes.context.accelerator.memories[memory].name;
                (
                    format!(
                        "{tensor} leaves {array} for `{memory}`, and no link of {array} goes there"
                    ),
                    format!("give {array} a link with `to: {:?}`", self.innermost()),
                )
            }));
        }
        Ok(ways)
    }

    /// A word that stays in an array must be where its reader looks for it: where it was made, or `read` before.
    fn handed_over(
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
