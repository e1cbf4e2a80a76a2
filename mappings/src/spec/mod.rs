//! What a mapping file says, decoded but not yet bound to sizes or to an accelerator.

mod choice;
mod decode;
mod table;

pub use choice::Choice;
pub(crate) use table::fraction_of;
pub use table::{Row, Table};

use einflow_spec::{Source, Span, expr::Expr};

/// A name in a mapping file, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As written.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// A mapping file.
#[derive(Clone, Debug)]
pub struct MappingSpec {
    /// The name.
    pub name: String,
    /// Where the mapping is published, or that it is assumed.
    pub cited: String,
    /// One or two sentences.
    pub description: String,
    /// The file.
    pub source: Source,
    /// The cascade that it maps.
    pub workload: Name,
    /// The accelerator that it was made for.
    pub accelerator: Option<Name>,
    /// The accelerator file with the published accounting, for `--accounting published`.
    pub published: Option<Name>,
    /// A table of choices, one row a shape.
    pub table: Option<Table>,
    /// Sizes of rank parts and of the cascade's parameters, in the order in which they are found.
    pub sizes: Vec<(Name, Choice<SizeRule>)>,
    /// Splits of ranks into parts, outermost first.
    pub splits: Vec<(Name, Vec<Name>)>,
    /// Fused blocks, one after another.
    pub blocks: Vec<BlockSpec>,
}

/// How a size is found.
#[derive(Clone, Debug)]
pub enum SizeRule {
    /// A number or an expression over shapes, sizes found before, the accelerator and the table.
    Expr(Expr),
    /// The largest divisor of what is to be cut with which the mapping fits its memory.
    LargestDivisorThatFits(Room),
    /// The largest number with which the mapping fits its memory; the last tile may be partial.
    LargestThatFits(Room),
    /// Found by search: least traffic to the outermost memory, then least time, then fewest accesses.
    Searched,
}

/// The memory that a tile has to fit, and how much of it may be used.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// The memory; all of them where none is named.
    pub memory: Option<Name>,
    /// Bytes that may be used, where that is not the memory's capacity.
    pub within: Option<Expr>,
}

/// A fused block.
#[derive(Clone, Debug)]
pub struct BlockSpec {
    /// The block's name.
    pub name: String,
    /// Temporal loops that all of its Einsums share, outermost first.
    pub loops: Vec<Name>,
    /// Sizes of this block's own, found after the mapping's.
    pub sizes: Vec<(Name, Choice<SizeRule>)>,
    /// Splits of this block's own; they replace the mapping's of the same rank.
    pub splits: Vec<(Name, Vec<Name>)>,
    /// Loops, shared too, that follow `loops` in an order that is searched.
    pub searched_loops: Vec<Name>,
    /// What stays where.
    pub keep: Vec<KeepSpec>,
    /// Groups of Einsums with loops of their own, one after another inside the block's loops.
    pub nests: Vec<NestSpec>,
    /// Steps of a tile; none: the block takes its slowest unit.
    pub phases: Vec<PhaseSpec>,
    /// Einsums that alternate cycle by cycle on one unit.
    pub interleave: Vec<Vec<Name>>,
    /// The software pipeline.
    pub pipeline: Option<PipelineSpec>,
    /// Whether tiles that a condition leaves empty are skipped.
    pub skip_empty: bool,
    /// Where the block stands.
    pub span: Span,
}

/// Einsums that share loops inside a block.
#[derive(Clone, Debug)]
pub struct NestSpec {
    /// Temporal loops, outermost first, inside the block's.
    pub loops: Vec<Name>,
    /// What stays where while this nest runs.
    pub keep: Vec<KeepSpec>,
    /// The Einsums, in order.
    pub einsums: Vec<(Name, BindingSpec)>,
}

/// One Einsum's place.
#[derive(Clone, Debug)]
pub struct BindingSpec {
    /// The array.
    pub unit: Name,
    /// The rank part laid across the array's rows.
    pub rows: Choice<Option<Name>>,
    /// The rank part laid across the array's columns.
    pub columns: Choice<Option<Name>>,
    /// Its own temporal loops, innermost of all.
    pub loops: Choice<Vec<Name>>,
    /// The loop at whose exit it runs, once for each iteration of the loops around that one and of those inside.
    pub at_exit_of: Option<Name>,
    /// Operators that the unit performs as one (`["sub", "exp"]`).
    pub chain: Vec<Name>,
    /// Operands that do not come from the innermost memory that keeps them: tensor, then unit or memory.
    pub from: Vec<(Name, Name)>,
    /// The memory that holds partial results, where they do not stay in the array's registers.
    pub partials: Option<Name>,
}

/// Where a tensor stays.
#[derive(Clone, Debug)]
pub struct KeepSpec {
    /// The tensor (a view stands for what it views).
    pub tensor: Name,
    /// Memories, outermost first; an array's name stands for its registers.
    pub places: Choice<Vec<PlaceSpec>>,
}

/// One memory that keeps a tile of a tensor.
#[derive(Clone, Debug)]
pub struct PlaceSpec {
    /// The memory, or the array whose registers are meant.
    pub memory: Name,
    /// The loop for one iteration of which the tile serves; none: the whole tensor.
    pub below: Option<Name>,
    /// Tiles held: 1, or 2 where the next one is loaded while this one is used.
    pub buffers: u64,
    /// Whether room is freed row by row rather than by the whole tile.
    pub freed_by_row: bool,
    /// The share that is kept; the rest lives in the next memory outward.
    pub share: Option<Expr>,
    /// Whether the rest passes through this memory on its way (so that it is accessed too) or around it.
    pub spills_through: bool,
    /// A tensor whose room it takes over.
    pub in_place_of: Option<Name>,
    /// Whether the search may leave the place out.
    pub optional: bool,
}

/// One phase of a tile.
#[derive(Clone, Debug)]
pub struct PhaseSpec {
    /// The phase's name.
    pub name: String,
    /// The Einsums that run in it, in order; those on one unit follow one another, units run in parallel.
    pub einsums: Vec<Name>,
    /// Cycles in which the array drains before the phase.
    pub drain: Option<Expr>,
}

/// A software pipeline: how many tiles each Einsum runs ahead of the tile that leaves the pipeline.
#[derive(Clone, Debug)]
pub struct PipelineSpec {
    /// Tiles ahead, by Einsum; 0 where not given.
    pub offsets: Vec<(Name, u64)>,
    /// The loop at whose end the pipeline empties; none: it runs on to the end of the block.
    pub drains_at: Option<Name>,
}
