//! The names of a cascade: ranks, their variables, parameters, partitions.

use std::collections::BTreeSet;

use einflow_spec::expr::Expr;
use einflow_spec::{Problem, Problems, Source, Span, did_you_mean};
use indexmap::IndexMap;

use super::whole::Allowed;
use crate::cascade::{Parameter, Partition, Rank, RankId};
use crate::file::CascadeFile;

/// Words that mean something themselves.
const RESERVED: [&str; 8] = ["where", "and", "or", "not", "inf", "top", "sum", "ceil"];

/// The ranks, partitions and parameters of a cascade.
#[derive(Debug)]
pub(super) struct Names {
    pub source: Source,
    pub ranks: IndexMap<String, Rank>,
    pub batch: Vec<RankId>,
    pub partitions: Vec<Partition>,
    pub parameters: IndexMap<String, Parameter>,
    /// Names that stand in texts which could not be read.
    pub broken: BTreeSet<String>,
}

impl Names {
    /// Collects every name that the file declares.
    pub fn collect(file: &CascadeFile, problems: &mut Problems) -> Self {
        let mut names = Self {
            source: file.source.clone(),
            ranks: IndexMap::new(),
            batch: Vec::new(),
            partitions: Vec::new(),
            parameters: IndexMap::new(),
            broken: file
                .broken
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
        };
        for (name, span) in &file.batch {
            if !names.good_size(name, *span, problems) {
                continue;
            }
            if names.ranks.contains_key(name) {
                problems
                    .push(names.problem(*span, format!("the batch rank `{name}` is given twice")));
                continue;
            }
            let rank = names.add_rank(&name.to_ascii_lowercase());
            names.batch.push(rank);
        }
        for (name, span, parameter) in &file.parameters {
            if !names.good_size(name, *span, problems) {
                continue;
            }
            if names.parameters.contains_key(name) {
                problems
                    .push(names.problem(*span, format!("the parameter `{name}` is given twice")));
                continue;
            }
            names.parameters.insert(name.clone(), parameter.clone());
        }
        for input in &file.inputs {
            for (variable, span) in input.ranks.iter().chain(&input.coordinates_of) {
                if names.good_variable(variable, *span, problems) {
                    names.add_rank(variable);
                } else {
                    names.broken.insert(variable.to_ascii_lowercase());
                }
            }
        }
        names.collect_partitions(file, problems);
        names.collect_parameter_ranks(file);
        names.check_defaults(problems);
        names
    }

    /// Parts may themselves be split, in any order of the list.
    fn collect_partitions(&mut self, file: &CascadeFile, problems: &mut Problems) {
        let mut parts_seen: BTreeSet<String> = BTreeSet::new();
        let all_parts: BTreeSet<&str> = file
            .partitions
            .iter()
            .flat_map(|split| split.parts.iter().map(|(name, _)| name.as_str()))
            .collect();
        for split in &file.partitions {
            let (whole, at) = &split.whole;
            let mut good = self.good_size(whole, *at, problems);
            let known = self.ranks.contains_key(whole)
                || self.parameters.contains_key(whole)
                || all_parts.contains(whole.as_str());
            if good && !known {
                good = false;
                let known: Vec<&str> = self.ranks.keys().map(String::as_str).collect();
                problems.push(
                    self.problem(
                        *at,
                        format!("`{whole}` is not a rank, so it cannot be split"),
                    )
                    .help(did_you_mean(whole, known)),
                );
            }
            if split.parts.len() < 2 {
                good = false;
                problems.push(
                    self.problem(*at, format!("`{whole}` is split into one part"))
                        .help("a partition has at least two: `M -> M1, M0`"),
                );
            }
            let mut ids = Vec::new();
            for (position, (part, at)) in split.parts.iter().enumerate() {
                if !self.good_size(part, *at, problems) {
                    good = false;
                    continue;
                }
                let variable = part.to_ascii_lowercase();
                if part == whole || !parts_seen.insert(part.clone()) {
                    good = false;
                    problems.push(
                        self.problem(*at, format!("`{part}` is already part of a partition")),
                    );
                } else if self.ranks.contains_key(part) {
                    good = false;
                    problems.push(
                        self.problem(
                            *at,
                            format!("`{part}` is already a rank of the batch or of an input"),
                        )
                        .help("the parts of a partition are ranks of their own: `M -> M1, M0`"),
                    );
                } else if position == 0 && self.parameters.contains_key(part) {
                    problems.push(
                        self.problem(*at, format!("the size of `{part}` follows from the partition, it cannot be a parameter"))
                            .help(format!("the outermost part has ceil({whole} / the other parts) coordinates")),
                    );
                } else if position > 0 && !self.parameters.contains_key(part) {
                    problems.push(
                        self.problem(*at, format!("the size of `{part}` is not given"))
                            .help(format!(
                                "state its default: parameters: {{ \"{part}\": 16 }}"
                            )),
                    );
                }
                ids.push(self.add_rank(&variable));
            }
            let whole_id = self.add_rank(&whole.to_ascii_lowercase());
            if good {
                self.partitions.push(Partition {
                    whole: whole_id,
                    parts: ids,
                });
            }
        }
    }

    /// A parameter whose variable is used somewhere is a rank.
    fn collect_parameter_ranks(&mut self, file: &CascadeFile) {
        let mut used = BTreeSet::new();
        let mut note = |expr: &Expr| {
            expr.walk(&mut |part| {
                if let Expr::Name { name, .. } = part {
                    used.insert(name.clone());
                }
            });
        };
        for statement in &file.statements {
            statement
                .indices
                .iter()
                .chain([&statement.right])
                .chain(&statement.conditions)
                .for_each(&mut note);
        }
        let named = file
            .statements
            .iter()
            .filter_map(|s| s.reduction.as_ref())
            .flat_map(|r| r.ranks.iter().chain(&r.into));
        let declared = file.outputs.iter().flat_map(|output| &output.ranks);
        used.extend(named.chain(declared).map(|(name, _)| name.clone()));
        let ranks: Vec<String> = self
            .parameters
            .keys()
            .map(|name| name.to_ascii_lowercase())
            .filter(|v| used.contains(v))
            .collect();
        for variable in ranks {
            self.add_rank(&variable);
        }
    }

    /// Defaults name known sizes only, and none depends on itself.
    fn check_defaults(&self, problems: &mut Problems) {
        for parameter in self.parameters.values() {
            self.check_whole(&parameter.default, Allowed::Sizes, problems);
        }
        for (name, parameter) in &self.parameters {
            let mut reached: BTreeSet<&str> = BTreeSet::new();
            let mut open: Vec<&str> = self.sizes_behind(name);
            while let Some(next) = open.pop() {
                if next == name {
                    problems.push(
                        self.problem(
                            parameter.span,
                            format!("the default of `{name}` depends on `{name}` itself"),
                        )
                        .help("give it a number"),
                    );
                    break;
                }
                if reached.insert(next) {
                    open.extend(self.sizes_behind(next));
                }
            }
        }
    }

    /// Names of the sizes that the size of `name` is computed from.
    fn sizes_behind(&self, name: &str) -> Vec<&str> {
        let mut found = Vec::new();
        if let Some(parameter) = self.parameters.get(name) {
            parameter.default.walk(&mut |part| {
                if let Expr::Name { name, .. } = part {
                    found.push(name.as_str());
                }
            });
        }
        for partition in &self.partitions {
            if self.rank(partition.parts[0]).name == name {
                found.push(&self.rank(partition.whole).name);
                found.extend(
                    partition.parts[1..]
                        .iter()
                        .map(|part| self.rank(*part).name.as_str()),
                );
            }
        }
        found
    }

    /// The rank of a variable, adding it where it is new.
    fn add_rank(&mut self, variable: &str) -> RankId {
        let name = variable.to_ascii_uppercase();
        let rank = Rank {
            name: name.clone(),
            variable: variable.to_owned(),
        };
        let entry = self.ranks.entry(name);
        let id = RankId(entry.index());
        entry.or_insert(rank);
        id
    }

    pub fn rank(&self, id: RankId) -> &Rank {
        &self.ranks[id.0]
    }

    pub fn problem(&self, span: Span, message: impl Into<String>) -> Problem {
        Problem::at(&self.source, span, message)
    }

    /// The rank of a known variable.
    pub fn variable(&self, name: &str) -> Option<RankId> {
        if name.chars().any(|c| c.is_ascii_uppercase()) {
            return None;
        }
        self.ranks
            .get_index_of(&name.to_ascii_uppercase())
            .map(RankId)
    }

    /// The rank of a variable that must be known and not of the batch.
    pub fn need_variable(&self, name: &str, span: Span, problems: &mut Problems) -> Option<RankId> {
        match self.variable(name) {
            Some(rank) if self.batch.contains(&rank) => {
                problems.push(
                    self.problem(span, format!("`{name}` is the variable of a batch rank, which stands unwritten on every tensor"))
                        .help(format!("leave it out, or take \"{}\" out of `batch`", self.rank(rank).name)),
                );
                None
            }
            Some(rank) => Some(rank),
            None => {
                if !self.broken.contains(&name.to_ascii_lowercase()) {
                    problems.push(self.unknown_variable(name, span));
                }
                None
            }
        }
    }

    fn unknown_variable(&self, name: &str, span: Span) -> Problem {
        let known: Vec<&str> = self.variables().collect();
        let problem = self.problem(span, format!("`{name}` is not a rank variable"));
        match einflow_spec::nearest(name, known.iter().copied()) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help(format!(
                "known: {}; a rank comes from an input, from a partition, or gets its size from `parameters`",
                known.join(", ")
            )),
        }
    }

    fn variables(&self) -> impl Iterator<Item = &str> {
        self.ranks
            .values()
            .enumerate()
            .filter(|(i, _)| !self.batch.contains(&RankId(*i)))
            .map(|(_, rank)| rank.variable.as_str())
    }

    /// The size that a fixed parameter is another name of, else the size itself.
    pub fn same_size<'a>(&'a self, mut name: &'a str) -> &'a str {
        for _ in 0..self.parameters.len() {
            match self.parameters.get(name) {
                Some(Parameter {
                    fixed: true,
                    default: Expr::Name { name: same, .. },
                    ..
                }) => name = same,
                _ => break,
            }
        }
        name
    }

    /// True for the name of a rank or parameter.
    pub fn is_size(&self, name: &str) -> bool {
        self.ranks.contains_key(name) || self.parameters.contains_key(name)
    }

    fn good_size(&self, name: &str, span: Span, problems: &mut Problems) -> bool {
        let shape = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let good = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(shape);
        if !good {
            problems.push(
                self.problem(span, format!("`{name}` cannot name a size"))
                    .help(
                        "ranks and parameters are upper-case letters, digits and `_`: M, M0, WIDTH",
                    ),
            );
            return false;
        }
        self.not_reserved(name, span, problems)
    }

    fn good_variable(&self, name: &str, span: Span, problems: &mut Problems) -> bool {
        let shape = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let good = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(shape);
        if !good {
            problems.push(
                self.problem(span, format!("`{name}` cannot be a rank variable"))
                    .help("rank variables are lower-case letters, digits and `_`: m, m0, width"),
            );
            return false;
        }
        self.not_reserved(name, span, problems)
    }

    fn not_reserved(&self, name: &str, span: Span, problems: &mut Problems) -> bool {
        let word = name.to_ascii_lowercase();
        let reserved =
            RESERVED.contains(&word.as_str()) || super::functions::function(&word).is_some();
        if reserved {
            problems.push(
                self.problem(span, format!("`{name}` is a reserved word"))
                    .help("choose another name"),
            );
        }
        !reserved
    }

    /// Checks a tensor's name.
    pub fn good_tensor(&self, name: &str, span: Span, problems: &mut Problems) -> bool {
        let shape = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let good = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(shape);
        if !good {
            problems.push(
                self.problem(span, format!("`{name}` cannot name a tensor"))
                    .help("a tensor's name begins with an upper-case letter and has letters, digits and `_`"),
            );
        }
        good
    }
}
