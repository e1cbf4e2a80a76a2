//! Links: how operands reach the PEs that use them, how sums form across PEs, and how results leave.

use einflow_arch::{Array, Direction, Link};

use super::homes::{Homes, Operand, Origin};
use crate::{
    count::Count,
    mapped::{BoundEinsum, NamedLoop},
    nest::Dim,
};

/// Who takes a word that comes to an array.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takers {
    /// Each PE of the lanes that have no word of their own.
    All,
    /// One of them, which adds to it: the others start from nothing.
    One,
}

/// A dimension of an array: words move along its rows' index going down or up, along its columns' going right or left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension {
    Rows,
    Columns,
}

impl Dimension {
    pub(super) fn of(direction: Direction) -> Self {
        match direction {
            Direction::Down | Direction::Up => Self::Rows,
            Direction::Right | Direction::Left => Self::Columns,
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Rows => Self::Columns,
            Self::Columns => Self::Rows,
        }
    }

    pub(super) fn name(self) -> &'static str {
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
    /// Links that each word passes, on average over all tiles; of what lanes add up, each part one.
    pub hops: Count,
}

/// Words that come to an array over a link.
pub(super) struct Entering {
    /// On a single link of the family.
    pub(super) words: u64,
    /// Links of the family that each word passes.
    hops: Count,
}

impl Entering {
    pub(super) fn over(&self, unit: usize, link: usize) -> Passed {
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

/// What links an Einsum's words have.
pub(super) struct Check<'a, 'h> {
    pub(super) homes: &'h Homes<'a>,
}

impl Check<'_, '_> {
    pub(super) fn array(&self, unit: usize) -> &Array {
        &self.homes.context.accelerator.arrays[unit]
    }

    pub(super) fn links(&self, unit: usize) -> impl Iterator<Item = (usize, &Link)> {
        self.array(unit).links.iter().enumerate()
    }

    /// Links between neighbours.
    pub(super) fn neighbours(&self, unit: usize) -> impl Iterator<Item = (usize, &Link)> {
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
            Origin::Memory(memory) => self.come(einsum, operand.dims, memory, tensor, Takers::All),
        }
    }

    /// Words from a memory.
    fn come(
        &self,
        einsum: &BoundEinsum,
        dims: &[Dim],
        memory: usize,
        tensor: &str,
        takers: Takers,
    ) -> Result<Vec<Way>, Fault> {
        let unit = einsum.unit;
        let feeders = self
            .links(unit)
            .filter(|(_, l)| self.passes(l.from.as_ref(), memory));
        let (mut ways, mut fault) = (Vec::new(), None);
        for (index, link) in feeders {
            match self.arrive(einsum, dims, link, tensor, takers) {
                Ok((entering, mut way)) => {
                    way.push(entering.over(unit, index));
                    ways.push(way);
                }
                Err(why) => fault = fault.or(Some(why)),
            }
        }
        if !ways.is_empty() {
            return Ok(ways);
        }
        Err(fault.unwrap_or_else(|| {
            let array = &self.array(unit).name;
            let memory = &self.homes.context.accelerator.memories[memory].name;
            let reads = match takers {
                Takers::All => format!("reads {tensor} from `{memory}`"),
                Takers::One => format!("adds to partial results of {tensor} in `{memory}`"),
            };
            (
                format!(
                    "{} on {array} {reads}, and no link of {array} comes from there",
                    einsum.name
                ),
                format!("give {array} a link with `from: {:?}`", self.innermost()),
            )
        }))
    }

    /// Partial results on their way back from a memory.
    pub(super) fn come_back(
        &self,
        einsum: &BoundEinsum,
        dims: &[Dim],
        memory: usize,
    ) -> Result<Vec<Way>, Fault> {
        let tensor = self.homes.name(self.homes.output(einsum));
        self.come(einsum, dims, memory, tensor, Takers::One)
    }

    /// What words need that enter an array over `link`: to be passed on to the PEs of their lanes that take them. With
    /// the words on each single link of the family.
    pub(super) fn arrive(
        &self,
        einsum: &BoundEinsum,
        dims: &[Dim],
        link: &Link,
        tensor: &str,
        takers: Takers,
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
        let passes_on = |lane: &&NamedLoop| takers == Takers::All || lane.touches_any(dims);
        if let Some(lane) = along.lane(einsum).filter(passes_on) {
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
        let across_lane = across.lane(einsum).filter(passes_on);
        if let Some(lane) = across_lane.filter(|l| !l.touches_any(dims)) {
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

    /// What results need that leave an array over `link`: to be passed on to its edge.
    pub(super) fn reach_edge(
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
        let ways: Vec<Way> = self
            .neighbours(unit)
            .filter(|(_, l)| l.reduce && Dimension::of(l.direction) == dimension)
            .map(|(link, _)| {
                vec![Passed {
                    unit,
                    link,
                    words: 1,
                    hops: Count::whole(1),
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
}
