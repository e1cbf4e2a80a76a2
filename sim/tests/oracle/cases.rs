//! Random mappings, legal by construction but for a few that the binding refuses.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, LazyLock},
};

use einflow_arch::Accelerator;
use einflow_mappings::spec::MappingSpec;
use einflow_spec::Source;
use einflow_workloads::{
    cascade::{Cascade, Einsum, RankId, TensorId},
    cascades,
};

use crate::chips::chip;

/// Draws from a list of numbers that proptest makes and shrinks; 0 is the simplest choice.
pub struct Draws<'a>(std::slice::Iter<'a, u16>);

impl<'a> Draws<'a> {
    pub fn new(draws: &'a [u16]) -> Self {
        Self(draws.iter())
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % n.max(1)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }
}

/// A mapping and what it maps.
pub struct Case {
    pub cascade: Arc<Cascade>,
    pub accelerator: Arc<Accelerator>,
    pub spec: Arc<MappingSpec>,
    pub sizes: BTreeMap<String, u64>,
    pub text: String,
}

const OWN: [(&str, &str, &str, &str); 10] = [
    (
        "matmul",
        r#""A[m, k]", "B[k, n]""#,
        "C[m, n]",
        "C[m, n] = A[m, k] * B[k, n]",
    ),
    (
        "convolution",
        r#""I[c, w]", "F[k, c, r]""#,
        "O[k, p]",
        "O[k, p] = I[c, p + r] * F[k, c, r]",
    ),
    (
        "strided",
        r#""I[w]", "F[r]""#,
        "O[p]",
        "O[p] = I[2 * p + r] * F[r]",
    ),
    (
        "heads",
        r#""Q[e, p, h]", "K[e, m, g]""#,
        "S[m, p, h]",
        "S[m, p, h] = Q[e, p, h] * K[e, m, h / 2]",
    ),
    (
        "gram",
        r#""A[i, k]""#,
        "S[i, j]",
        "S[i, j] = A[i, k] * A[j, k]",
    ),
    (
        "outer",
        r#""A[i]", "B[i]", "C[j]""#,
        "Z[i, j]",
        "X[i] = A[i] * B[i]\nZ[i, j] = X[i] * C[j]",
    ),
    (
        "roll",
        r#""X[s, p]", "C[r]""#,
        "Z[r, p]",
        "Z[r, p] = X[(r + 1) % S, p] * C[r]",
    ),
    (
        "circle",
        r#""X[s]", "C[w]""#,
        "Z[p]",
        "Z[p] = X[(p + w) % S] * C[w]",
    ),
    (
        "distance",
        r#""B[d]", "S[m, p]""#,
        "Z[m, p]",
        "Z[m, p] = S[M - 1 - m, p] + B[m + P - 1 - p]",
    ),
    ("copy", r#""A[i, j]""#, "Z[j, i]", "Z[j, i] = A[i, j]"),
];

const LIBRARY: [&str; 8] = [
    "attention/one-pass",
    "attention/three-pass",
    "attention/three-pass-deferred",
    "attention/two-pass",
    "attention/split",
    "attention/one-pass-causal",
    "attention/sliding-window",
    "attention/grouped-query",
];

static CASCADES: LazyLock<Vec<Arc<Cascade>>> = LazyLock::new(|| {
    let own = OWN.iter().map(|(name, inputs, output, einsums)| {
        let text = format!(
            r##"(name: "test/{name}", source: "assumed", description: "for tests", inputs: [{inputs}], outputs: ["{output}"],
                {} einsums: r#"{einsums}"#)"##,
            match *name {
                "convolution" => r#"parameters: { "P": "W - R + 1" },"#,
                "strided" => r#"parameters: { "P": "(W - R) / 2 + 1" },"#,
                "heads" => r#"parameters: { "G": "ceil(H / 2)" },"#,
                "gram" => r#"parameters: { "J": "= I" },"#,
                "roll" => r#"parameters: { "R": "= S" },"#,
                "circle" => r#"parameters: { "P": "= S" },"#,
                "distance" => r#"parameters: { "D": "= M + P - 1" },"#,
                _ => "",
            }
        );
        Arc::new(Cascade::parse(&Source::new(format!("{name}.ron"), text)).unwrap_or_else(|e| panic!("{name}: {e:?}")))
    });
    let library = LIBRARY.iter().map(|name| {
        let (source, _) = cascades().find(name, None).unwrap();
        Arc::new(Cascade::parse(&source).unwrap())
    });
    own.chain(library).collect()
});

static CHIPS: LazyLock<Vec<Arc<Accelerator>>> =
    LazyLock::new(|| vec![chip(2, false), chip(3, false), chip(2, true), chip(3, true)]);

/// A rank cut into parts, outermost first: name and step of each.
pub struct Cut {
    pub rank: RankId,
    pub parts: Vec<String>,
}

/// A mapping in the making.
pub struct Maker<'a, 'd> {
    pub draws: &'a mut Draws<'d>,
    pub cascade: &'a Cascade,
    pub memories: Vec<String>,
    pub cuts: Vec<Cut>,
    /// Where the results of the nest's Einsums are made.
    pub units: BTreeMap<TensorId, String>,
    /// What lies across the rows and columns there.
    pub laid: BTreeMap<TensorId, Lanes>,
    /// What an array's registers keep, and how the first Einsum that uses it there is laid.
    pub in_registers: BTreeMap<TensorId, (&'static str, Option<Lanes>)>,
}

/// Rank parts across rows and columns.
pub type Lanes = [Option<String>; 2];

/// A random case of one of the cascades.
pub fn case(draws: &mut Draws<'_>) -> Option<Case> {
    let cascade = Arc::clone(&CASCADES[draws.below(CASCADES.len())]);
    let accelerator = Arc::clone(&CHIPS[draws.below(CHIPS.len())]);
    let mut sizes = BTreeMap::new();
    for rank in &cascade.ranks {
        let follows = cascade.parameters.get(&rank.name).is_some();
        let part = cascade
            .partitions
            .iter()
            .any(|p| cascade.rank(p.parts[0]).name == rank.name);
        if rank.name == "M0" {
            sizes.insert(rank.name.clone(), 1 + draws.below(3) as u64);
        } else if !follows && !part {
            let small = cascade.einsums.len() > 3 && !matches!(rank.name.as_str(), "M" | "P");
            let most = if small {
                2
            } else if cascade.einsums.len() > 3 {
                6
            } else {
                5
            };
            sizes.insert(rank.name.clone(), 1 + draws.below(most) as u64);
        }
    }
    for name in ["WIDTH", "DILATION"] {
        if cascade.parameters.contains_key(name) {
            sizes.insert(name.into(), 1 + draws.below(2) as u64);
        }
    }
    if let (Some(w), Some(r)) = (sizes.get("W").copied(), sizes.get("R").copied()) {
        sizes.insert("W".into(), w + r);
    }
    let all = cascade.sizes(&sizes).ok()?;
    let memories = accelerator
        .memories
        .iter()
        .map(|m| m.name.clone())
        .collect();
    let mut maker = Maker {
        draws,
        cascade: &cascade,
        memories,
        cuts: Vec::new(),
        units: BTreeMap::new(),
        laid: BTreeMap::new(),
        in_registers: BTreeMap::new(),
    };
    let mut part_sizes = String::new();
    let mut splits = String::new();
    for (i, rank) in cascade.ranks.iter().enumerate() {
        if cascade.partitions.iter().any(|p| p.whole == RankId(i)) {
            continue;
        }
        let size = all.get(&rank.name)?;
        let mut parts = vec![rank.name.clone()];
        let digit = cascade
            .partitions
            .iter()
            .any(|p| p.parts.contains(&RankId(i)));
        let count = if size < 2 || digit {
            1
        } else {
            1 + maker.draws.below(3)
        };
        if count > 1 {
            let letter = rank.name.to_lowercase();
            parts = (0..count)
                .rev()
                .map(|n| format!("{}x{n}", letter.to_uppercase()))
                .collect();
            let mut rest = size;
            for part in parts[1..].iter().rev() {
                // Never more than is left, so that every part is really cut.
                let own = 1 + maker.draws.below(rest.min(3) as usize) as u64;
                rest = rest.div_ceil(own);
                let _ = write!(part_sizes, "{part:?}: {own}, ");
            }
            let _ = write!(splits, "{:?}: {parts:?}, ", rank.name);
        }
        maker.cuts.push(Cut {
            rank: RankId(i),
            parts: parts.iter().map(|p| p.to_lowercase()).collect(),
        });
    }
    let blocks = maker.blocks();
    let text = format!(
        "(name: \"case\", source: \"assumed\", workload: {:?}, sizes: {{ {part_sizes} }}, splits: {{ {splits} }}, blocks: [{blocks}])",
        cascade.name
    );
    let spec = MappingSpec::parse(&Source::new("case.ron", text.clone()), None)
        .unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    Some(Case {
        cascade,
        accelerator,
        spec: Arc::new(spec),
        sizes,
        text,
    })
}

/// Loops that a nest's Einsums share, and where the innermost result of each is complete.
pub struct Shared {
    pub block: Vec<String>,
    pub nest: Vec<String>,
    pub exit: Option<String>,
}

impl Maker<'_, '_> {
    pub fn ranks(&self, einsum: &Einsum) -> Vec<RankId> {
        self.cascade
            .batch
            .iter()
            .chain(&einsum.ranks)
            .copied()
            .collect()
    }

    fn blocks(&mut self) -> String {
        let einsums: Vec<&Einsum> = self.cascade.einsums.iter().filter(|e| !e.view).collect();
        let iterative = self.cascade.tensors.iter().any(|t| t.iterative.is_some());
        let mut groups: Vec<Vec<&Einsum>> = vec![einsums];
        if !iterative && self.draws.one_in(3) && groups[0].len() > 1 {
            let at = 1 + self.draws.below(groups[0].len() - 1);
            let rest = groups[0].split_off(at);
            groups.push(rest);
        }
        let mut out = String::new();
        for (i, group) in groups.iter().enumerate() {
            let _ = write!(out, "{}, ", self.block(i, group, iterative));
        }
        out
    }

    /// Parts of ranks that can be walked by all of these Einsums together: in each rank some outer ones.
    fn shared_loops(&mut self, einsums: &[&Einsum]) -> Vec<String> {
        let mut chosen: Vec<Vec<String>> = Vec::new();
        for c in 0..self.cuts.len() {
            let rank = self.cuts[c].rank;
            let single = einsums.len() == 1;
            let free = einsums.iter().all(|e| !e.reduced.contains(&rank));
            let walked = einsums.iter().any(|e| self.ranks(e).contains(&rank));
            let finer = self
                .cascade
                .partitions
                .iter()
                .find(|p| p.parts[1..].contains(&rank));
            if !walked || !(free || single) || (finer.is_some() && !single) {
                continue;
            }
            let count = self.draws.below(self.cuts[c].parts.len() + 1);
            chosen.push(self.cuts[c].parts[..count].to_vec());
        }
        self.interleaved(chosen)
    }

    /// One random order that keeps each list's own.
    pub fn interleaved(&mut self, mut lists: Vec<Vec<String>>) -> Vec<String> {
        let mut out = Vec::new();
        lists.retain(|l| !l.is_empty());
        while !lists.is_empty() {
            let at = self.draws.below(lists.len());
            out.push(lists[at].remove(0));
            lists.retain(|l| !l.is_empty());
        }
        // Parts that the cascade itself cut: coarse before fine.
        for p in &self.cascade.partitions {
            let names: Vec<&String> = p
                .parts
                .iter()
                .map(|r| &self.cascade.rank(*r).variable)
                .collect();
            let at: Vec<usize> = (0..out.len())
                .filter(|i| names.contains(&&out[*i]))
                .collect();
            let mut sorted: Vec<String> = at.iter().map(|i| out[*i].clone()).collect();
            sorted.sort_by_key(|n| names.iter().position(|x| *x == n));
            for (i, name) in at.into_iter().zip(sorted) {
                out[i] = name;
            }
        }
        out
    }

    fn block(&mut self, index: usize, einsums: &[&Einsum], iterative: bool) -> String {
        let mut block = self.shared_loops(einsums);
        let mut exit = None;
        // All but the last Einsums run along the iterative rank; the last reads the final values at its exit.
        let looping = if iterative {
            let m1 = self
                .cascade
                .partitions
                .first()
                .map(|p| self.cascade.rank(p.parts[0]).variable.clone());
            let m1 = m1.unwrap_or_default();
            block.retain(|l| *l != m1);
            if self.draws.one_in(8) {
                None
            } else {
                // A loop that running values do not walk would update them again, were it inside.
                let free = |l: &String| !l.starts_with('f');
                let first = block.len() - block.iter().rev().take_while(|l| free(l)).count();
                let at = first + self.draws.below(block.len() + 1 - first);
                block.insert(at, m1.clone());
                exit = Some(m1.clone());
                Some(at)
            }
        } else {
            None
        };
        let mut nests: Vec<Vec<&Einsum>> = vec![einsums.to_vec()];
        if !iterative && einsums.len() > 1 && self.draws.one_in(2) {
            let at = 1 + self.draws.below(einsums.len() - 1);
            let rest = nests[0].split_off(at);
            nests.push(rest);
        }
        // The last loops may be the nest's where there is only one.
        let several = nests.len() > 1;
        let mut inner = Vec::new();
        if !several && exit.is_none() && self.draws.one_in(2) {
            inner = block.split_off(self.draws.below(block.len() + 1));
        }
        let mut nest_texts = String::new();
        let mut phase_texts = Vec::new();
        self.in_registers.clear();
        let mut block_keeps = self.keeps(einsums, &block, looping);
        for nest in &nests {
            self.units.clear();
            let mut loops = self.shared_loops(nest);
            loops.retain(|l| !block.contains(l));
            // A part inside must not be coarser than one outside; parts of one rank are consecutive.
            loops = self.legal_inside(&block, loops);
            if !several {
                loops = inner.clone();
            }
            let shared = Shared {
                block: block.clone(),
                nest: loops,
                exit: exit.clone(),
            };
            let keeps = self.nest_keeps(nest, &shared, &mut block_keeps);
            let mut bindings = String::new();
            for einsum in nest {
                let text = self.binding(einsum, &shared, &block_keeps.1);
                let name = &self.cascade.tensor(einsum.output).name;
                phase_texts.push(name.clone());
                let _ = write!(bindings, "{name:?}: {text}, ");
            }
            let _ = write!(
                nest_texts,
                "(loops: {:?}, keep: {{ {keeps} }}, einsums: {{ {bindings} }}), ",
                shared.nest
            );
        }
        let phases = if self.draws.one_in(3) {
            let at = 1 + self.draws.below(phase_texts.len());
            let drain = self.draws.below(3);
            let (a, b) = phase_texts.split_at(at.min(phase_texts.len()));
            let second = if b.is_empty() {
                String::new()
            } else {
                format!("(name: \"b\", einsums: {b:?}, drain: {drain})")
            };
            format!("phases: [(name: \"a\", einsums: {a:?}), {second}],")
        } else {
            String::new()
        };
        let skip =
            self.cascade.einsums.iter().any(|e| !e.support.is_empty()) && self.draws.one_in(2);
        format!(
            "(name: \"b{index}\", loops: {block:?}, keep: {{ {} }}, nests: [{nest_texts}], {phases} skip_empty: {skip})",
            block_keeps.0
        )
    }

    fn coarser(&self, part: &str) -> Vec<String> {
        self.cuts
            .iter()
            .find_map(|c| {
                c.parts
                    .iter()
                    .position(|p| p == part)
                    .map(|i| c.parts[..i].to_vec())
            })
            .unwrap_or_default()
    }

    /// Of loops inside others, those whose coarser parts all stand outside or before them.
    fn legal_inside(&self, around: &[String], loops: Vec<String>) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for l in loops {
            let coarser = self.coarser(&l);
            if coarser
                .iter()
                .all(|c| around.contains(c) || out.contains(c))
            {
                out.push(l);
            }
        }
        out
    }
}
