//! A memory's ports: each moves one row a cycle.

use smallvec::SmallVec;

use crate::program::Ports;

/// Which cycles of a memory's ports are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PortTable {
    /// Ports that may be used in one cycle: no more than there are banks.
    limit: u64,
    /// Uses that have not ended.
    taken: Vec<Ports>,
}

impl PortTable {
    /// A memory whose accesses go to as many rows at once as it has ports, and banks.
    pub fn new(ports: u64, banks: u64) -> Self {
        Self {
            limit: ports.min(banks).max(1),
            taken: Vec::new(),
        }
    }

    /// Forgets uses that end before a cycle.
    pub fn forget(&mut self, before: u64) {
        self.taken.retain(|p| p.last() >= before);
    }

    /// The same with times relative to `now`, without what ended more than `reach` cycles before, in an order of its
    /// own.
    pub fn relative(&self, now: u64, reach: u64) -> Self {
        let live = self.taken.iter().filter(|p| p.last() + reach >= now);
        let mut taken: Vec<Ports> = live
            .map(|p| Ports {
                start: p.start.wrapping_sub(now),
                ..*p
            })
            .collect();
        taken.sort_unstable();
        Self {
            limit: self.limit,
            taken,
        }
    }

    /// Moves all times on.
    pub fn move_on(&mut self, by: u64) {
        self.taken.iter_mut().for_each(|p| p.start += by);
    }

    /// By how many cycles uses have to be moved on for all of them to find ports; in one cycle they need no more than
    /// there are among themselves, see [`PortTable::fit`].
    pub fn delay(&self, wanted: &[Ports]) -> u64 {
        let together: u64 = wanted.iter().map(|p| p.rows).sum();
        let mut delay = 0;
        while self.clashes(wanted, delay, together) {
            delay += 1;
        }
        delay
    }

    /// Rows that would need more ports in a cycle than there are pass one after another, over all ports, from the
    /// first cycle on: that use; none where they fit.
    pub fn fit(&self, wanted: &[Ports]) -> Option<Ports> {
        let together: u64 = wanted.iter().map(|p| p.rows).sum();
        if together <= self.limit || self.alone(wanted) <= self.limit {
            return None;
        }
        let rows = wanted.iter().map(|p| p.rows.saturating_mul(p.count));
        Some(Ports {
            memory: wanted.first()?.memory,
            start: wanted.iter().map(|p| p.start).min()?,
            stride: 1,
            count: rows.sum::<u64>().div_ceil(self.limit),
            rows: self.limit,
        })
    }

    /// Most ports that the wanted uses take in one cycle among themselves.
    fn alone(&self, wanted: &[Ports]) -> u64 {
        let cycles = wanted
            .iter()
            .flat_map(|p| (0..p.count).map(move |i| p.start + i * p.stride));
        cycles
            .map(|c| wanted.iter().filter(|p| p.at(c)).map(|p| p.rows).sum())
            .max()
            .unwrap_or(0)
    }

    /// Whether too many ports would be taken in some cycle if all wanted uses were moved on by `delay`.
    fn clashes(&self, wanted: &[Ports], delay: u64, together: u64) -> bool {
        wanted.iter().any(|mine| {
            let (first, last) = (mine.start + delay, mine.last() + delay);
            let meets = |p: &&Ports| p.last() >= first && p.start <= last;
            let others: SmallVec<[Ports; 16]> = self.taken.iter().filter(meets).copied().collect();
            let around: u64 = others.iter().map(|p| p.rows).sum();
            if around + together <= self.limit {
                return false;
            }
            (0..mine.count).any(|k| {
                let cycle = mine.start + k * mine.stride;
                let taken: u64 = others
                    .iter()
                    .filter(|p| p.at(cycle + delay))
                    .map(|p| p.rows)
                    .sum();
                taken > 0 && {
                    let own: u64 = wanted.iter().filter(|p| p.at(cycle)).map(|p| p.rows).sum();
                    taken + own > self.limit
                }
            })
        })
    }

    /// Puts uses in the order in which they begin: their order bears on nothing.
    pub fn sort(&mut self) {
        self.taken.sort_unstable();
    }

    /// When uses begin, and how many cycles after that they end.
    pub fn times(&mut self) -> impl Iterator<Item = (&mut u64, u64)> {
        self.taken.iter_mut().map(|p| {
            let lasts = p.last() - p.start;
            (&mut p.start, lasts)
        })
    }

    /// Takes ports that [`PortTable::delay`] found free.
    pub fn take(&mut self, wanted: &[Ports]) {
        self.taken.extend_from_slice(wanted);
    }
}
