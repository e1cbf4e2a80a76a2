//! Whether the machine is as it was, times relative to now and places relative to where its walks stand.

use std::collections::VecDeque;

use super::Snapshot;
use crate::{
    cycle::{
        Cause,
        machine::Machine,
        state::{OpState, Started, StreamState, Use},
        timing::Steps,
    },
    hardware::{Channel, PortTable},
    program::{Key, Tile},
};

impl Machine<'_> {
    pub(super) fn barriers_alike(&self, old: &Snapshot, reference: usize) -> bool {
        let (a, b) = (&self.barrier, &old.barrier);
        // How far the open segment is behind what the marking Einsum does next.
        let behind = |key: Key, open: Option<(u64, i64, usize)>| {
            open.map(|o| (key.scope as i64 - o.0 as i64, key.epoch - o.1, o.2))
        };
        let same = |x: u64, y: u64| x as i64 - self.now as i64 == y as i64 - old.now as i64;
        self.program.segments.is_empty()
            || (same(a.floor, b.floor)
                && same(a.end, b.end)
                && same(a.epoch.0, b.epoch.0)
                && a.work == b.work
                && a.cause == b.cause
                && a.waited == b.waited
                && behind(self.ops[reference].key, a.open)
                    == behind(old.ops[reference].key, b.open))
    }

    /// Long ago: nothing that starts from now on depends on it.
    pub(super) fn old(&self, now: u64, end: u64) -> bool {
        end + self.reach() < now
    }

    pub(super) fn op_alike(
        &self,
        op: usize,
        new: &OpState,
        before: &OpState,
        old: &Snapshot,
        moved: bool,
    ) -> bool {
        let live = |now: u64, state: &OpState| -> Vec<(i128, i64, i64, u64)> {
            state
                .history
                .iter()
                .filter(|t: &&Started| !self.old(now, t.start + t.steps.end()))
                .map(|t| {
                    (
                        state.place as i128 - t.place as i128,
                        state.started as i64 - t.number as i64,
                        t.start as i64 - now as i64,
                        t.steps.end(),
                    )
                })
                .collect()
        };
        let steps = |now: u64, state: &OpState| -> Vec<Steps> {
            let live = state
                .history
                .iter()
                .filter(|t| !self.old(now, t.start + t.steps.end()));
            live.map(|t| t.steps.clone()).collect()
        };
        if live(self.now, new) != live(old.now, before)
            || steps(self.now, new) != steps(old.now, before)
        {
            return false;
        }
        let ahead = |state: &OpState| -> Vec<Option<Vec<(i64, u64)>>> {
            let of = |last: &Option<Tile>| {
                last.as_ref().map(|t| {
                    t.iter()
                        .zip(&state.tile)
                        .map(|(a, b)| (a.0 as i64 - b.0 as i64, a.1))
                        .collect()
                })
            };
            state.last.iter().map(of).collect()
        };
        if moved {
            let lengths = |state: &OpState| state.tile.iter().map(|s| s.1).collect::<Vec<_>>();
            return ahead(new) == ahead(before)
                && lengths(new) == lengths(before)
                && self.recents_alike(op, new, before, old);
        }
        new.last == before.last && new.recent == before.recent && new.started == before.started
    }

    pub(super) fn recents_alike(
        &self,
        op: usize,
        new: &OpState,
        before: &OpState,
        old: &Snapshot,
    ) -> bool {
        let Some(keep) = self.program.ops[op].writes else {
            return true;
        };
        let Some(user) = self.program.keeps[keep].users.iter().position(|u| *u == op) else {
            return true;
        };
        let now = self.generation(op, keep) as i128;
        let then = old.generations[keep][user] as i128;
        let ages = |list: &VecDeque<u128>, from: i128| -> Vec<i128> {
            list.iter().map(|g| from - *g as i128).collect()
        };
        ages(&new.recent, now) == ages(&before.recent, then)
    }

    pub(super) fn stream_alike(
        &self,
        new: &StreamState,
        before: &StreamState,
        old: &Snapshot,
        moved: bool,
    ) -> bool {
        let live = |now: u64, s: &StreamState| -> Vec<(i128, i64, i64, Option<Cause>)> {
            s.arrived
                .iter()
                .filter(|a| !self.old(now, a.whole))
                .map(|a| {
                    (
                        s.place as i128 - a.place as i128,
                        a.first as i64 - now as i64,
                        a.whole as i64 - now as i64,
                        a.cause,
                    )
                })
                .collect()
        };
        if live(self.now, new) != live(old.now, before) {
            return false;
        }
        if !moved {
            return new.recent == before.recent
                && new.last == before.last
                && new.issued == before.issued;
        }
        let ages = |s: &StreamState| -> Vec<i128> {
            s.recent
                .iter()
                .map(|g| s.place as i128 - *g as i128)
                .collect()
        };
        let last = |s: &StreamState| -> Option<Vec<(i64, u64)>> {
            s.last.as_ref().map(|t| {
                t.iter()
                    .zip(&s.tile)
                    .map(|(a, b)| (a.0 as i64 - b.0 as i64, a.1))
                    .collect()
            })
        };
        let lengths = |s: &StreamState| s.tile.iter().map(|s| s.1).collect::<Vec<_>>();
        ages(new) == ages(before) && last(new) == last(before) && lengths(new) == lengths(before)
    }

    pub(super) fn hardware_alike(&self, old: &Snapshot) -> bool {
        let reach = self.reach();
        let ports = |now: u64, table: &PortTable| -> Vec<(i64, u64, u64, u64)> {
            let mut live: Vec<_> = table
                .taken
                .iter()
                .filter(|p| p.last() + reach >= now)
                .map(|p| (p.start as i64 - now as i64, p.stride, p.count, p.rows))
                .collect();
            live.sort_unstable();
            live
        };
        let tables = self.ports.iter().zip(&old.ports);
        let channel = |now: u64, c: &Channel| -> (u64, Vec<u64>) {
            let live = c.under_way.iter().filter(|e| **e > now).map(|e| e - now);
            (c.free.saturating_sub(now), live.collect())
        };
        let channels = self.channels.iter().zip(&old.channels);
        tables
            .clone()
            .all(|(a, b)| ports(self.now, a) == ports(old.now, b))
            && channels
                .clone()
                .all(|(a, b)| channel(self.now, a) == channel(old.now, b))
    }

    pub(super) fn uses_alike(&self, old: &Snapshot) -> bool {
        let generations = self.generations();
        for (keep, plan) in self.program.keeps.iter().enumerate() {
            for (position, user) in plan.users.iter().enumerate() {
                let live = |now: u64, from: u128, list: &VecDeque<Use>| -> Vec<(i128, i64)> {
                    let live = list.iter().filter(|u| !self.old(now, u.end));
                    live.map(|u| {
                        (
                            from as i128 - u.generation as i128,
                            u.end as i64 - now as i64,
                        )
                    })
                    .collect()
                };
                let now = live(
                    self.now,
                    generations[keep][position],
                    &self.uses[keep][*user],
                );
                let then = live(
                    old.now,
                    old.generations[keep][position],
                    &old.uses[keep][*user],
                );
                if now != then {
                    return false;
                }
            }
        }
        true
    }
}
