//! A memory's ports: each moves one row a cycle.

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

    /// By how many cycles uses have to be moved on for all of them to find ports; none if they never do, as one of them alone needs
    /// more than there are.
    pub fn delay(&self, wanted: &[Ports]) -> Option<u64> {
        if self.alone(wanted) > self.limit {
            return None;
        }
        let most: u64 = wanted.iter().map(|p| p.rows).sum();
        let mut delay = 0;
        loop {
            let moved = |p: &Ports| Ports {
                start: p.start + delay,
                ..*p
            };
            let Some(clash) = self.clash(&wanted.iter().map(moved).collect::<Vec<_>>(), most) else {
                return Some(delay);
            };
            let _ = clash;
            delay += 1;
        }
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

    /// A cycle in which too many ports would be taken.
    fn clash(&self, wanted: &[Ports], most: u64) -> Option<u64> {
        for (i, mine) in wanted.iter().enumerate() {
            let meets = |p: &&Ports| p.last() >= mine.start && p.start <= mine.last();
            let others: Vec<&Ports> = self.taken.iter().filter(meets).collect();
            let around: u64 = others.iter().map(|p| p.rows).sum();
            if around + most <= self.limit {
                continue;
            }
            for k in 0..mine.count {
                let cycle = mine.start + k * mine.stride;
                let taken: u64 = others.iter().filter(|p| p.at(cycle)).map(|p| p.rows).sum();
                if taken == 0 {
                    continue;
                }
                let own: u64 = wanted.iter().filter(|p| p.at(cycle)).map(|p| p.rows).sum();
                if taken + own > self.limit {
                    return Some(cycle);
                }
            }
            let _ = i;
        }
        None
    }

    /// Takes ports that [`PortTable::delay`] found free.
    pub fn take(&mut self, wanted: &[Ports]) {
        self.taken.extend_from_slice(wanted);
    }
}
