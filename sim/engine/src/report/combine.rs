use super::data::{Charge, Report, Unit};

/// Joins runs that follow one another on one accelerator: the layers of a model.
///
/// `None` for an empty list or on overflow.
pub fn combine(reports: Vec<Report>) -> Option<Report> {
    let mut reports = reports.into_iter();
    let mut sum = reports.next()?;
    for report in reports {
        sum.time = sum.time.plus(report.time)?;
        for (name, unit) in report.units {
            let own = sum.units.entry(name).or_insert_with(|| Unit {
                pes: unit.pes,
                busy: Default::default(),
            });
            for (einsum, busy) in unit.busy {
                let total = own.busy.entry(einsum).or_insert(0);
                *total = total.checked_add(busy)?;
            }
        }
        for (memory, tensors) in report.traffic {
            let own = sum.traffic.entry(memory).or_default();
            for (tensor, access) in tensors {
                let total = own.entry(tensor).or_default();
                total.reads = total.reads.plus(access.reads)?;
                total.writes = total.writes.plus(access.writes)?;
            }
        }
        for (memory, bytes) in report.occupancy {
            let most = sum.occupancy.entry(memory).or_insert(0);
            *most = bytes.max(*most);
        }
        for charge in report.energy {
            let same =
                |c: &&mut Charge| c.component == charge.component && c.action == charge.action;
            match sum.energy.iter_mut().find(same) {
                Some(own) => own.count = own.count.plus(charge.count)?,
                None => sum.energy.push(charge),
            }
        }
        sum.account = match (sum.account, report.account) {
            (Some(own), Some(more)) => Some(own.plus(more)?),
            _ => None,
        };
        sum.blocks.extend(report.blocks);
        sum.lower_bound.compute_seconds += report.lower_bound.compute_seconds;
        sum.lower_bound.memory_seconds += report.lower_bound.memory_seconds;
        sum.lower_bound.dram_bytes = sum
            .lower_bound
            .dram_bytes
            .checked_add(report.lower_bound.dram_bytes)?;
        if !sum
            .inputs
            .workload
            .split(" + ")
            .any(|w| w == report.inputs.workload)
        {
            sum.inputs.workload = format!("{} + {}", sum.inputs.workload, report.inputs.workload);
        }
        if !sum
            .inputs
            .mapping
            .split(" + ")
            .any(|m| m == report.inputs.mapping)
        {
            sum.inputs.mapping = format!("{} + {}", sum.inputs.mapping, report.inputs.mapping);
        }
    }
    Some(sum)
}
