//! The steps of an epoch, which units go through in the same order and at the pace that the mapping states.

use super::{cause::Cause, machine::Machine};

impl Machine<'_> {
    /// Opens the next segment when no unit has a task left in the open one.
    pub(super) fn close_segments(&mut self) {
        if self.program.segments.is_empty() {
            return;
        }
        let least = self
            .state
            .ops
            .iter()
            .filter(|o| !o.cursor.done)
            .map(|o| (o.key.scope, o.key.epoch, o.key.segment))
            .min();
        let Some(next) = least else { return };
        if self.state.barrier.open == Some(next) {
            return;
        }
        let b = &mut self.state.barrier;
        let mut floor = b.end.max(b.floor);
        let mut cause = b.waited.1;
        let new_epoch = b.open.is_none_or(|(s, e, _)| (s, e) != (next.0, next.1));
        let stated_of = |work: &[Vec<u64>]| -> u64 {
            let slowest = work.iter().map(|u| u.iter().copied().max().unwrap_or(0));
            slowest
                .zip(&self.program.drains)
                .map(|(most, drain)| if most > 0 { most + drain } else { 0 })
                .sum()
        };
        // What the segment takes without any wait is the mapping's choice.
        if b.waited.0 == 0 {
            cause = Cause::Mapping;
        }
        if new_epoch {
            let pace = b.epoch + stated_of(&b.work);
            if pace > floor {
                floor = pace;
                cause = Cause::Mapping;
            }
            b.work.iter_mut().for_each(|u| u.fill(0));
            b.epoch = floor;
        }
        b.cause = cause;
        b.open = Some(next);
        b.floor = floor;
        b.end = floor;
        b.waited = (0, Cause::Mapping);
        let units = self.units();
        self.state.ready[..units].fill(None);
    }
}
