//! Values to try a mapped cascade with.

use std::collections::BTreeMap;

use einflow_mappings::mapped::MappedCascade;
use einflow_workloads::{
    cascade::{RankId, TensorKind},
    interpret::Array,
};

use super::real_length::Random;
use crate::report::NoValues;

/// Where the numbers begin: any will do, so long as it stays the same.
const SEED: u64 = 0x5eed;

/// Standard normal inputs in the word's format from a fixed seed; queries are divided by sqrt(E), which cascades
/// leave out.
///
/// # Errors
/// An input that holds coordinates.
pub fn inputs(mapped: &MappedCascade) -> Result<BTreeMap<String, Array>, NoValues> {
    let cascade = &mapped.cascade;
    let format = mapped.accelerator.word;
    let size = |r: &RankId| {
        mapped
            .sizes
            .get(&cascade.rank(*r).name)
            .copied()
            .unwrap_or(1)
    };
    let mut random = Random(SEED);
    let mut out = BTreeMap::new();
    for tensor in cascade
        .tensors
        .iter()
        .filter(|t| t.kind == TensorKind::Input)
    {
        if tensor.coordinates_of.is_some() {
            return Err(NoValues {
                input: tensor.name.clone(),
            });
        }
        let ranks = cascade.batch.iter().chain(&tensor.ranks);
        let shape: Vec<usize> = ranks.map(|r| size(r) as usize).collect();
        let scale = match (tensor.name.as_str(), mapped.sizes.get("E")) {
            ("Q", Some(e)) => 1.0 / (*e as f64).sqrt(),
            _ => 1.0,
        };
        let data: Vec<f64> = (0..shape.iter().product())
            .map(|_| format.round(random.normal() * scale))
            .collect();
        out.insert(tensor.name.clone(), Array::new(shape, data));
    }
    Ok(out)
}
