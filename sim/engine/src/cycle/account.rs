//! From what units did in each cycle to the report's account.

use einflow_mappings::{count::Count, mapped::MappedCascade};
use indexmap::IndexMap;

use super::run::BlockRun;
use crate::{
    analytic::Counts,
    events::{Cause, Side},
    report::{Account, Activity, Item},
};

/// Accounts for the cycles of all blocks. `None` on overflow.
///
/// In each block the busiest unit's waits are what makes the block longer than its work; the analytic engine counts
/// some of them too, where a memory or another unit sets the pace. The rest are the items.
pub(super) fn account(
    mapped: &MappedCascade,
    runs: &[BlockRun],
    analytic: &Counts,
) -> Option<Account> {
    let arrays = &mapped.accelerator.arrays;
    let mut units: IndexMap<String, IndexMap<Activity, u128>> = arrays
        .iter()
        .map(|a| (a.name.clone(), IndexMap::from([(Activity::Busy, 0)])))
        .collect();
    let mut items: IndexMap<String, i128> = IndexMap::new();
    let mut total = Count::default();
    let mut rounding = Count::default();
    let mut tasks = (0u128, 0u128);
    let mut busiest: IndexMap<&str, u128> = IndexMap::new();
    for (index, run) in runs.iter().enumerate() {
        for (unit, array) in arrays.iter().enumerate() {
            let own = units.get_mut(&array.name)?;
            *own.get_mut(&Activity::Busy)? += u128::from(run.totals.busy[unit]);
            for (cause, cycles) in &run.totals.waits[unit] {
                *own.entry(cause.activity(mapped)).or_insert(0) += u128::from(*cycles);
            }
        }
        let busiest_of = self::busiest(run)?;
        *busiest.entry(&arrays[busiest_of].name).or_insert(0) += u128::from(run.cycles);
        let time = analytic.times[index];
        total = total.plus(time)?;
        let idle = i128::try_from(time.ceiling()).ok()? - i128::from(run.totals.busy[busiest_of]);
        for (cause, cycles) in &run.totals.waits[busiest_of] {
            *items.entry(cause.activity(mapped).text()).or_insert(0) += i128::from(*cycles);
        }
        let known = match crate::analytic::memory_bound(mapped, analytic, index) {
            Some(memory) => format!("of these, {memory}'s traffic over its bandwidth, which the analytic engine counts too"),
            None => "of these, the pace of other units and stated drains, which the analytic engine counts too".into(),
        };
        *items.entry(known).or_insert(0) -= idle;
        rounding = rounding.plus(request_rounding(mapped, run, analytic, index)?)?;
        tasks.0 = tasks.0.checked_add(run.totals.tasks.into())?;
        tasks.1 = tasks.1.checked_add(run.totals.simulated.into())?;
    }
    // Each block's analytic time was rounded up by itself.
    let ceilings: u128 = analytic.times.iter().map(|t| t.ceiling()).sum();
    let apart = ceilings - total.ceiling();
    if apart > 0 {
        items.insert(
            "rounding of blocks to whole cycles".into(),
            i128::try_from(apart).ok()?,
        );
    }
    let items = items.into_iter().filter(|(_, cycles)| *cycles != 0);
    let paced_by = busiest
        .iter()
        .max_by_key(|(_, cycles)| **cycles)?
        .0
        .to_string();
    Some(Account {
        units,
        analytic: total,
        items: items.map(|(what, cycles)| Item { what, cycles }).collect(),
        paced_by,
        request_rounding: rounding,
        tasks,
    })
}

/// What bounds a block: what most of its busiest unit's cycles go to, the unit itself where that is its work, a memory
/// where that is its ports, its bandwidth, or words that come from the outermost.
pub(super) fn bound_by(mapped: &MappedCascade, run: &BlockRun) -> Option<String> {
    let unit = busiest(run)?;
    let accelerator = &mapped.accelerator;
    let memory = |m: usize| accelerator.memories[m].name.clone();
    let array = |a: usize| accelerator.arrays[a].name.clone();
    let mut by = IndexMap::from([(array(unit), run.totals.busy[unit])]);
    for (cause, cycles) in &run.totals.waits[unit] {
        let name = match cause {
            Cause::Operand(_, Side::Memory(0)) => memory(0),
            Cause::Port(m) | Cause::Channel(m) => memory(*m),
            _ => cause.activity(mapped).text(),
        };
        *by.entry(name).or_insert(0) += cycles;
    }
    // Of equals the first.
    let most = by.into_iter().rev().max_by_key(|(_, cycles)| *cycles)?;
    Some(most.0)
}

/// The unit that works most, or passes on most where none works; of equals the first.
fn busiest(run: &BlockRun) -> Option<usize> {
    let passes = |unit: usize| -> u64 {
        let waits = run.totals.waits[unit].iter();
        let links = waits.filter(|(cause, _)| matches!(cause, Cause::Link(..)));
        links.map(|(_, cycles)| cycles).sum()
    };
    let units = 0..run.totals.busy.len();
    units.max_by_key(|u| (run.totals.busy[*u], passes(*u), std::cmp::Reverse(*u)))
}

/// Cycles of the outermost memory's channel beyond bytes over bandwidth.
fn request_rounding(
    mapped: &MappedCascade,
    run: &BlockRun,
    analytic: &Counts,
    index: usize,
) -> Option<Count> {
    let exact =
        crate::analytic::memory_time(&mapped.accelerator, 0, &analytic.block_traffic[index])?;
    let busy = Count::whole(run.totals.channel.first().copied().unwrap_or(0).into());
    Some(
        exact
            .and_then(|exact| busy.minus(exact))
            .unwrap_or_default(),
    )
}
