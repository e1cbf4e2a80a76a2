//! The sequencer of a unit: which member of a group issues which of its steps when.

/// One step of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Cycles after the first.
    pub time: u64,
    /// Which of the members.
    pub member: usize,
    /// Which of its steps.
    pub step: u64,
}

/// The steps of all members of a group in the order in which they are issued: in rounds, a step of each member that has one left.
#[derive(Clone, Debug, Default)]
pub(super) struct Issue {
    pub slots: Vec<Slot>,
    /// By member: when each of its steps is issued.
    pub times: Vec<Vec<u64>>,
    /// By member: cycles of a step.
    pub cycles: Vec<u64>,
}

impl Issue {
    /// Members with so many steps of so many cycles.
    pub fn new(members: &[(u64, u64)]) -> Self {
        let mut issue = Self {
            slots: Vec::new(),
            times: vec![Vec::new(); members.len()],
            cycles: members.iter().map(|(_, cycles)| *cycles).collect(),
        };
        let rounds = members.iter().map(|(steps, _)| *steps).max().unwrap_or(0);
        let mut time = 0;
        for step in 0..rounds {
            for (member, (steps, cycles)) in members.iter().enumerate() {
                if step < *steps {
                    issue.slots.push(Slot { time, member, step });
                    issue.times[member].push(time);
                    time += cycles;
                }
            }
        }
        issue
    }

    pub fn first(&self, member: usize) -> u64 {
        self.times[member].first().copied().unwrap_or(0)
    }

    pub fn last(&self, member: usize) -> u64 {
        self.times[member].last().copied().unwrap_or(0)
    }

    /// When a member's last step has ended.
    pub fn end(&self, member: usize) -> u64 {
        self.last(member) + self.cycles[member]
    }

    /// When all have ended.
    pub fn whole(&self) -> u64 {
        (0..self.times.len())
            .map(|m| self.end(m))
            .max()
            .unwrap_or(0)
    }

    /// Cycles in which a step is under way.
    pub fn busy(&self) -> u64 {
        let each = self.times.iter().zip(&self.cycles);
        each.map(|(times, cycles)| times.len() as u64 * cycles)
            .sum()
    }

    /// Cycles until a member's second step is issued.
    pub fn stride(&self, member: usize) -> u64 {
        match self.times[member].as_slice() {
            [first, second, ..] => second - first,
            _ => self.cycles.iter().sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_take_turns() {
        let issue = Issue::new(&[(2, 1), (3, 6)]);
        assert_eq!(issue.times, [vec![0, 7], vec![1, 8, 14]]);
        assert_eq!((issue.end(0), issue.whole(), issue.busy()), (8, 20, 20));
        assert_eq!(issue.slots.len(), 5);
    }
}
