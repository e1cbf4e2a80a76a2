//! From given sizes to the size of every rank and parameter.

use std::{collections::BTreeMap, fmt};

use einflow_spec::expr::Expr;
use einflow_spec::{Problem, Problems, did_you_mean};

use crate::cascade::{Cascade, Parameter, Partition, RankId, Sizes};
use crate::models::Model;

/// The largest size of a rank or parameter: 2^24.
///
/// Counts multiply up to four sizes of this magnitude, which 128-bit integers hold.
pub const LARGEST_SIZE: u64 = 1 << 24;

/// A size that a model gives in place of a cascade's default, which has the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverriddenDefault {
    /// The parameter.
    pub name: String,
    /// The model's.
    pub size: u64,
    /// The cascade's own.
    pub default: u64,
    /// The model.
    pub model: String,
}

impl fmt::Display for OverriddenDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            size,
            default,
            model,
        } = self;
        write!(
            f,
            "{name}={size} is the size of {model}; the cascade's own default is {default} (--size {name}={default})"
        )
    }
}

impl Cascade {
    /// Defaults in whose place a model's sizes stand, of `sizes` of which nothing else gives the model's.
    pub fn overridden(
        &self,
        sizes: &BTreeMap<String, u64>,
        model: &Model,
    ) -> Vec<OverriddenDefault> {
        let of_model = model.sizes(1);
        let free = self
            .parameters
            .iter()
            .filter(|(_, parameter)| !parameter.fixed);
        let found = free.filter_map(|(name, _)| {
            let size = of_model
                .get(name)
                .filter(|size| sizes.get(name) == Some(size))?;
            let mut others = sizes.clone();
            others.remove(name);
            let default = self.sizes(&others).ok()?.get(name)?;
            let (name, model) = (name.clone(), model.name.clone());
            (default != *size).then_some(OverriddenDefault {
                name,
                size: *size,
                default,
                model,
            })
        });
        found.collect()
    }

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

    /// Refuses a model that has no one size for a rank or parameter of this cascade, where it is not among those that
    /// are `known` otherwise.
    ///
    /// # Errors
    /// Each such size, and what it is in which layers.
    pub fn check_model(&self, model: &Model, known: &dyn Fn(&str) -> bool) -> Result<(), Problems> {
        let mut problems = Problems::new();
        let unsized_ranks = model.unsized_ranks();
        let needed = |name: &&str| !known(name) && !self.follows(name);
        for name in self.size_names().filter(needed) {
            if let Some(why) = unsized_ranks.get(name) {
                let (model, cascade) = (&model.name, &self.name);
                let message = format!("the layers of {model} have no one size of `{name}`: {why}");
                let help = format!(
                    "give `{name}` itself, if {cascade} is what some of them compute: --size {name}=N"
                );
                problems.push(Problem::nowhere(message).help(help));
            }
        }
        problems.into_result(Some(()))
    }

    /// Computes every size: by partition (ceil(M / M0) for the outermost part), by a fixed parameter's expression, as
    /// given, or by a parameter's default. Names that the cascade does not have are ignored, so that the sizes of a
    /// model serve any cascade; [`Cascade::check_size_names`] refuses them.
    ///
    /// # Errors
    /// A size that is neither given nor derivable; a size of 0, or above [`LARGEST_SIZE`]; a default that cannot be
    /// computed; a size that follows from others given otherwise.
    pub fn sizes(&self, given: &BTreeMap<String, u64>) -> Result<Sizes, Problems> {
        let mut problems = Problems::new();
        let mut known: BTreeMap<String, u64> = BTreeMap::new();
        for name in self.size_names().filter(|name| !self.follows(name)) {
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
        // Each round computes what the one before made computable.
        loop {
            let before = known.len();
            for (name, parameter) in &self.parameters {
                if !known.contains_key(name)
                    && let Some(size) = self.default_size(name, parameter, &known)?
                {
                    let source = format!("it is {}", parameter.default);
                    problems.extend(agrees(name, size, given, parameter.fixed, &source));
                    known.insert(name.clone(), size);
                }
            }
            for partition in &self.partitions {
                let name = &self.rank(partition.parts[0]).name;
                if !known.contains_key(name)
                    && let Some(size) = self.partition_size(partition, &known)
                {
                    let whole = &self.rank(partition.whole).name;
                    let others = partition.parts[1..]
                        .iter()
                        .map(|part| self.rank(*part).name.as_str());
                    let tile = others.collect::<Vec<_>>().join(" / ");
                    let source = format!("the partition makes it ceil({whole} / {tile})");
                    problems.extend(agrees(name, size, given, true, &source));
                    known.insert(name.clone(), size);
                }
            }
            if known.len() == before {
                break;
            }
        }
        // What follows from others lacks one of them.
        let lacking = |name: &&str| !known.contains_key(*name) && !self.follows(name);
        for name in self.size_names().filter(lacking) {
            let message = format!("{} needs the size of `{name}`", self.name);
            let help = "it is neither given nor does it follow from the others";
            problems.push(Problem::nowhere(message).help(help));
        }
        problems.into_result(Some(Sizes(known)))
    }

    /// True for a size that always follows from others.
    fn follows(&self, name: &str) -> bool {
        self.parameters
            .get(name)
            .is_some_and(|parameter| parameter.fixed)
            || self
                .partitions
                .iter()
                .any(|partition| self.rank(partition.parts[0]).name == name)
    }

    /// The size that a parameter's expression gives; `None` where it names one that is not known yet.
    fn default_size(
        &self,
        name: &str,
        parameter: &Parameter,
        known: &BTreeMap<String, u64>,
    ) -> Result<Option<u64>, Problem> {
        let mut ready = true;
        parameter.default.walk(&mut |part| {
            if let Expr::Name { name, .. } = part {
                ready &= known.contains_key(name);
            }
        });
        if !ready {
            return Ok(None);
        }
        let lookup = |name: &str| known.get(name).map(|size| i128::from(*size));
        let value = parameter
            .default
            .whole(&self.source, &lookup, &|| self.size_names().collect())?;
        let size = check_range(name, value).map_err(|problem| {
            let place = Problem::at(&self.source, parameter.default.span(), problem.message);
            place.help(problem.help.unwrap_or_default())
        })?;
        Ok(Some(size))
    }

    /// ceil(whole / product of the inner parts); `None` where one of them is not known yet.
    fn partition_size(&self, partition: &Partition, known: &BTreeMap<String, u64>) -> Option<u64> {
        let size = |rank: RankId| known.get(&self.rank(rank).name).copied();
        let whole = size(partition.whole)?;
        let tile = partition.parts[1..]
            .iter()
            .try_fold(1u64, |tile, part| Some(tile.saturating_mul(size(*part)?)))?;
        Some(whole.div_ceil(tile))
    }
}

/// A problem where a size that follows from others is given otherwise.
fn agrees(
    name: &str,
    size: u64,
    given: &BTreeMap<String, u64>,
    follows: bool,
    source: &str,
) -> Problems {
    match given.get(name) {
        Some(stated) if follows && *stated != size => {
            let message = format!("`{name}` is given as {stated}, but {source} = {size}");
            Problem::nowhere(message)
                .help(format!("leave `{name}` out"))
                .into()
        }
        _ => Problems::new(),
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
