//! A memory's ports: each moves one row a cycle.

use smallvec::SmallVec;

use crate::program::Ports;

/// Which cycles of a memory's ports are taken.
#[derive(Clone, Debug, Default)]
pub struct PortTable {
    /// Ports that may be used in one cycle: no more than there are banks.
    limit: u64,
    /// Uses that have not ended.
    pub taken: Vec<Ports>,
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

    /// By how many cycles uses have to be moved on for all of them to find ports; none if they never do, as in one cycle they
    /// need more than there are among themselves.
    pub fn delay(&self, wanted: &[Ports]) -> Option<u64> {
        let together: u64 = wanted.iter().map(|p| p.rows).sum();
        if together > self.limit && self.alone(wanted) > self.limit {
            return None;
        }
        let mut delay = 0;
        while self.clashes(wanted, delay, together) {
            delay += 1;
        }
        Some(delay)
    }

    /// Most ports that the wanted uses take in one cycle among themselves.
    fn alone(&self, wanted: &[Ports]) -> u64 {
        let cycles = wanted.iter().flat_map(|p| {
            // Uses are regular: the first cycles of each show every meeting of two.
            (0..p.count.min(64)).map(move |i| p.start + i * p.stride)
        });
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

    /// Takes ports that [`PortTable::delay`] found free.
    pub fn take(&mut self, wanted: &[Ports]) {
        self.taken.extend_from_slice(wanted);
    }
}
