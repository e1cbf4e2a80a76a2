//! Means of ratios between runs, over models and lengths.

use einflow_spec::Problems;
use rayon::prelude::*;

use super::{
    experiment::{Experiment, Means, Ratio},
    outcome::{ColumnResult, ExperimentResult, RowResult},
    table::number_at,
};
use crate::runs::at;
use einflow_engine::{catalog::Catalog, request::Request};

/// Computes each mean.
pub(super) fn run(
    experiment: &Experiment,
    means: &Means,
    catalog: &Catalog,
) -> Result<ExperimentResult, Problems> {
    let points: Vec<(&String, u64)> = means
        .models
        .iter()
        .flat_map(|m| means.lengths.iter().map(move |l| (m, *l)))
        .collect();
    let mut columns = Vec::new();
    for ratio in &means.ratios {
        let values: Vec<Result<f64, Problems>> = points
            .par_iter()
            .map(|(model, length)| value(experiment, means, ratio, model, *length, catalog))
            .collect();
        let values = values.into_iter().collect::<Result<Vec<f64>, Problems>>()?;
        let found = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let row = RowResult {
            row: format!("mean of {}", values.len()),
            expected: Some(ratio.expected),
            found,
            tolerance: ratio.tolerance,
        };
        columns.push(ColumnResult {
            column: ratio.name.clone(),
            bound: ratio.bound,
            rows: vec![row],
        });
    }
    Ok(ExperimentResult {
        name: experiment.name.clone(),
        columns,
        unreferenced: 0,
        notes: Vec::new(),
    })
}

fn value(
    experiment: &Experiment,
    means: &Means,
    ratio: &Ratio,
    model: &str,
    length: u64,
    catalog: &Catalog,
) -> Result<f64, Problems> {
    let total = |runs: &[Request]| -> Result<f64, Problems> {
        let mut sum = 0.0;
        for run in runs {
            let request = Request {
                accounting: means.accounting,
                beside: experiment.beside.clone(),
                ..at(run, Some(model), Some(length))
            };
            let report = catalog.report(request.key(), || request.run(catalog))?;
            sum += number_at(&report.to_json(), experiment, &ratio.value)?;
        }
        Ok(sum)
    };
    Ok(total(&ratio.over)? / total(&ratio.under)?)
}
