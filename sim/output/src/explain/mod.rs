//! A mapping in words: loop by loop what stays where, what moves when, who waits for whom, what bounds it.
//!
//! Everything follows from the bound mapping and the analytic engine's counts. Each movement of words is told once, at the
//! loop or the Einsum to which it belongs, so that what the text states sums to the report.

mod bounds;
mod einsums;
mod keeps;
mod nest;
mod sizes;
mod waits;
mod words;

use einflow_mappings::{
    count::{Access, Count, Traffic, traffic_of, transferred},
    mapped::{Block, BoundEinsum, MappedCascade, Place, Transfer},
    nest::iterations,
};
use einflow_workloads::cascade::{Read, TensorId, TensorKind};

use crate::render::wrapped;
use einflow_engine::{
    analytic::{AnalyticError, Counts, count},
    units::length,
};
use words::filled;

/// What is explained, for the heading.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// The model that gave the sizes.
    pub model: Option<&'a str>,
    /// The sequence length.
    pub length: Option<u64>,
}

/// A mapping in words.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The text, in lines of at most 80 columns.
    pub text: String,
    /// The accesses that the text states, memory by memory and tensor by tensor.
    pub stated: Traffic,
}

/// Explains a mapped cascade.
///
/// # Errors
/// Counts that cannot be made, or that overflow.
pub fn explain(mapped: &MappedCascade, inputs: Inputs<'_>) -> Result<Explanation, AnalyticError> {
    let counts = count(mapped)?;
    let (memories, tensors) = (
        mapped.accelerator.memories.len(),
        mapped.cascade.tensors.len(),
    );
    let mut page = Page {
        mapped,
        counts: &counts,
        out: String::new(),
        stated: Traffic::new(memories, tensors),
        moves: Vec::new(),
    };
    page.heading(inputs);
    for index in 0..mapped.blocks.len() {
        page.moves = movements(mapped, index)?;
        page.out.push('\n');
        page.nests(index)?;
        page.waits(index);
        page.bounds(index)?;
    }
    page.total()?;
    Ok(Explanation {
        text: page.out,
        stated: page.stated,
    })
}

/// One movement of words with its counts.
struct Move<'a> {
    transfer: &'a Transfer,
    /// Its accesses.
    traffic: Traffic,
    /// Words that move in all, wherever they come from or go to.
    words: u128,
    /// How often the tile changes.
    changes: u128,
    /// Iterations of the loops that step from tile to tile.
    tiles: u128,
    /// The text has told it.
    told: bool,
}

/// The movements of a block, counted one by one.
fn movements(mapped: &MappedCascade, index: usize) -> Result<Vec<Move<'_>>, AnalyticError> {
    let block = &mapped.blocks[index];
    let accelerator = &mapped.accelerator;
    let (memories, tensors) = (accelerator.memories.len(), mapped.cascade.tensors.len());
    let one = |transfer| {
        let space = &block.space;
        let only = std::slice::from_ref(transfer);
        let traffic = traffic_of(space, only, accelerator.counting, memories, tensors)?;
        let depth = transfer.tile_depth;
        let moved = transferred(space, transfer)?;
        Ok(Move {
            transfer,
            traffic,
            words: moved.words,
            changes: moved.tiles,
            tiles: iterations(space, &transfer.loops[..depth])?,
            told: false,
        })
    };
    let all: Result<_, _> = block.transfers.iter().map(one).collect();
    all.map_err(|source| AnalyticError::Count {
        block: block.name.clone(),
        source,
    })
}

impl Move<'_> {
    /// Its accesses of a memory.
    fn at(&self, memory: usize) -> Access {
        self.traffic.get(memory, self.transfer.tensor.0)
    }
}

/// The text in the making.
struct Page<'a> {
    mapped: &'a MappedCascade,
    counts: &'a Counts,
    out: String,
    stated: Traffic,
    /// The movements of the block at hand.
    moves: Vec<Move<'a>>,
}

impl<'a> Page<'a> {
    fn line(&mut self, indent: usize, text: &str) {
        self.out.push_str(&filled(text, indent, 2));
    }

    fn heading(&mut self, inputs: Inputs<'_>) {
        let mapped = self.mapped;
        let (spec, chip) = (&mapped.spec.name, &mapped.accelerator.name);
        let mut title = format!("{spec} on {chip}, {}", mapped.cascade.name);
        if let Some(model) = inputs.model {
            title.push_str(&format!(", {model}"));
        }
        if let Some(tokens) = inputs.length {
            title.push_str(&format!(", {} tokens", length(tokens)));
        }
        self.out.push_str(&wrapped(&title));
        if !mapped.spec.description.is_empty() {
            self.line(0, &mapped.spec.description);
        }
        let sizes: Vec<String> = mapped
            .sizes
            .iter()
            .map(|(name, size)| format!("{name}={size}"))
            .collect();
        self.out
            .push_str(&wrapped(&format!("sizes     {}", sizes.join(" "))));
        self.size_rules();
    }

    fn block(&self, index: usize) -> &'a Block {
        &self.mapped.blocks[index]
    }

    fn tensor(&self, id: TensorId) -> &'a str {
        &self.mapped.cascade.tensor(id).name
    }

    fn memory(&self, memory: usize) -> &'a str {
        &self.mapped.accelerator.memories[memory].name
    }

    fn array(&self, unit: usize) -> &'a str {
        &self.mapped.accelerator.arrays[unit].name
    }

    fn place(&self, place: Place) -> String {
        match place {
            Place::Memory(memory) => self.memory(memory).to_string(),
            Place::Registers(unit) => format!("the registers of {}", self.array(unit)),
        }
    }

    /// The bytes of so many words, to the nearest byte.
    fn bytes(&self, words: Count) -> Result<String, AnalyticError> {
        let bytes = words.times(self.mapped.word_bytes());
        let bytes = bytes.ok_or(AnalyticError::Overflow)?;
        Ok(words::bytes(bytes.rounded()))
    }

    /// The tensor that a view stands for, or itself.
    fn behind(&self, mut id: TensorId) -> TensorId {
        let cascade = &self.mapped.cascade;
        while cascade.tensor(id).kind == TensorKind::View {
            let einsum = cascade.tensor(id).producer.map(|e| cascade.einsum(e));
            match einsum.and_then(|e| e.reads.first()) {
                Some(read) => id = read.tensor,
                None => break,
            }
        }
        id
    }

    /// What an Einsum reads.
    fn reads(&self, einsum: &BoundEinsum) -> &'a [Read] {
        &self.mapped.cascade.einsum(einsum.einsum).reads
    }

    /// The Einsum of a block that makes a tensor: its nest, its position.
    fn maker(&self, block: &'a Block, tensor: TensorId) -> Option<(usize, usize)> {
        let cascade = &self.mapped.cascade;
        block.nests.iter().enumerate().find_map(|(n, nest)| {
            let found = |e: &BoundEinsum| cascade.einsum(e.einsum).output == tensor;
            nest.einsums.iter().position(found).map(|e| (n, e))
        })
    }

    /// Marks a movement as told and adds what it accesses to what the text states.
    fn tell(&mut self, at: usize) -> Result<(), AnalyticError> {
        let told = &mut self.moves[at];
        told.told = true;
        self.stated
            .add(&told.traffic)
            .ok_or(AnalyticError::Overflow)
    }
}
