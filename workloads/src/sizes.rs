//! From given sizes to the size of every rank and parameter.

use std::collections::BTreeMap;

use einflow_spec::{Problem, Problems, did_you_mean};

use crate::cascade::{Cascade, Sizes};

/// The largest size of a rank or parameter: 2^24.
///
/// Counts multiply up to four sizes of this magnitude, which 128-bit integers hold.
pub const LARGEST_SIZE: u64 = 1 << 24;

impl Cascade {
    /// Names of every rank and parameter: what `given` of [`Cascade::sizes`] may hold.
    pub fn size_names(&self) -> impl Iterator<Item = &str> + Clone {
        let plain = self
            .parameters
            .keys()
            .filter(|name| !self.ranks.iter().any(|rank| rank.name == **name));
        self.ranks
            .iter()
            .map(|rank| rank.name.as_str())
            .chain(plain.map(String::as_str))
    }

    /// Refuses names that this cascade has no size for.
    ///
    /// # Errors
    /// Each unknown name, with the nearest known one.
    pub fn check_size_names<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Problems> {
        let mut problems = Problems::new();
        for name in names {
            if !self.size_names().any(|known| known == name) {
                let message = format!("{} has no rank or parameter `{name}`", self.name);
                problems
                    .push(Problem::nowhere(message).help(did_you_mean(name, self.size_names())));
            }
        }
        problems.into_result(Some(()))
    }

    /// Computes every size: as given, else by partition (ceil(M / M0) for the outermost part), else by the
    /// parameter's default. Names that the cascade does not have are ignored, so that the sizes of a
    /// model serve any cascade; [`Cascade::check_size_names`] refuses them.
    ///
    /// # Errors
    /// A size that is neither given nor derivable; a size of 0, or above [`LARGEST_SIZE`]; a default that cannot be
    /// computed; an outermost part given otherwise than its partition says.
    pub fn sizes(&self, given: &BTreeMap<String, u64>) -> Result<Sizes, Problems> {
        let mut problems = Problems::new();
        let mut known: BTreeMap<String, u64> = BTreeMap::new();
        // The outermost part of a partition, computed below, is checked against what is given.
        let outermost: Vec<&str> = self
            .partitions
            .iter()
            .map(|p| self.rank(p.parts[0]).name.as_str())
            .collect();
        for name in self.size_names().filter(|name| !outermost.contains(name)) {
            if let Some(size) = given.get(name) {
                known.insert(name.to_owned(), *size);
                if let Err(problem) = check_range(name, i128::from(*size)) {
                    problems.push(problem);
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        loop {
            let before = known.len();
            for (name, parameter) in &self.parameters {
                if known.contains_key(name) {
                    continue;
                }
                let ready = |expr: &einflow_spec::expr::Expr| {
                    let mut ready = true;
                    expr.walk(&mut |part| {
                        if let einflow_spec::expr::Expr::Name { name, .. } = part {
                            ready &= known.contains_key(name);
                        }
                    });
                    ready
                };
                if !ready(&parameter.default) {
                    continue;
                }
                let lookup = |name: &str| known.get(name).map(|size| i128::from(*size));
                let value = parameter
                    .default
                    .whole(&self.source, &lookup, &|| self.size_names().collect())?;
                let size = check_range(name, value).map_err(|problem| {
                    let place =
                        Problem::at(&self.source, parameter.default.span(), problem.message);
                    place.help(problem.help.unwrap_or_default())
                })?;
                known.insert(name.clone(), size);
            }
            for partition in &self.partitions {
                let name = &self.rank(partition.parts[0]).name;
                let whole = known.get(&self.rank(partition.whole).name).copied();
                let tile = partition.parts[1..].iter().try_fold(1u64, |product, part| {
                    product.checked_mul(*known.get(&self.rank(*part).name)?)
                });
                let (false, Some(whole), Some(tile)) = (known.contains_key(name), whole, tile)
                else {
                    continue;
                };
                let size = whole.div_ceil(tile);
                if let Some(stated) = given.get(name)
                    && *stated != size
                {
                    let rank = &self.rank(partition.whole).name;
                    let message = format!(
                        "`{name}` is given as {stated}, but {rank} = {whole} in tiles of {tile} makes {size}"
                    );
                    problems.push(
                        Problem::nowhere(message)
                            .help(format!("leave `{name}` out: it follows from the partition")),
                    );
                }
                known.insert(name.clone(), size);
            }
            if known.len() == before {
                break;
            }
        }
        for name in self.size_names().filter(|name| !known.contains_key(*name)) {
            let message = format!("{} needs the size of `{name}`", self.name);
            problems.push(
                Problem::nowhere(message)
                    .help("it is neither given nor does it follow from the others"),
            );
        }
        problems.into_result(Some(Sizes(known)))
    }
}

fn check_range(name: &str, size: i128) -> Result<u64, Problem> {
    if size < 1 {
        return Err(Problem::nowhere(format!("the size of `{name}` is {size}"))
            .help("a size is at least 1"));
    }
    match u64::try_from(size) {
        Ok(size) if size <= LARGEST_SIZE => Ok(size),
        _ => Err(Problem::nowhere(format!(
            "the size of `{name}` is {size}, above 2^24 = {LARGEST_SIZE}"
        ))
        .help("lengths go to 2^24: beyond it counts could pass 128 bits")),
    }
}
