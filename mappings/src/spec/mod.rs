//! What a mapping file says, decoded but not yet bound to sizes or to an accelerator.

mod choice;
mod decode;
mod table;

pub use choice::Choice;
pub(crate) use table::fraction_of;
pub use table::{Row, Table};

pub use einflow_spec::Name;
use einflow_spec::{Source, Span, expr::Expr, record};

use decode::{Either, buffers, freed_by, keeps, spills};

record! {
    /// A mapping file.
    #[derive(Clone, Debug)]
    pub struct MappingSpec = "a mapping" {
        /// The mapping's name, that of its file.
        pub name: String;
        /// Where the mapping is published, or `assumed`.
        pub cited("source"): String;
        /// One or two sentences.
        pub description: String = String::new() => "nothing";
        /// The file.
        pub source: Source where Source;
        /// The cascade that it maps: a name, or a path; beside this file first.
        pub workload: Name;
        /// The accelerator that it was made for, taken where a run names none.
        pub accelerator: Option<Name> => "a run names one";
        /// The accelerator file that stands for the published accounting (`--accounting published`).
        pub published: Option<Name> => "none is published";
        /// A CSV file of choices by shape, one row a shape, see below.
        pub table: Option<Table> where Table;
        /// Sizes of rank parts and of the cascade's parameters, in the order in which they are found.
        pub sizes: Vec<(Name, Choice<SizeRule>)> = Vec::new() => "none";
        /// Splits of ranks into parts, outermost first.
        pub splits: Vec<(Name, Vec<Name>)> = Vec::new() => "none";
        /// Fused blocks, one after another.
        pub blocks: Vec<BlockSpec>;
    } check |fields| {
        if blocks.as_ref().is_some_and(Vec::is_empty) {
            let problem = fields.node().problem("a mapping without blocks maps nothing");
            fields.push(problem.help("add one block for each fused group of Einsums"));
        }
    }
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

record! {
    /// A fused block.
    #[derive(Clone, Debug)]
    pub struct BlockSpec = "a block" {
        /// The block's name.
        pub name: String;
        /// Temporal loops that all of its Einsums share, outermost first.
        pub loops: Vec<Name> = Vec::new() => "none";
        /// Sizes of this block's own, found after the mapping's.
        pub sizes: Vec<(Name, Choice<SizeRule>)> = Vec::new() => "none";
        /// Splits of this block's own; they replace the mapping's of the same rank.
        pub splits: Vec<(Name, Vec<Name>)> = Vec::new() => "none";
        /// Loops, shared too, that follow `loops` in an order that is searched.
        pub searched_loops: Vec<Name> = Vec::new() => "none";
        /// What stays where: a tensor's places.
        pub keep: Vec<KeepSpec> as keeps = Vec::new() => "nothing";
        /// Groups of Einsums with loops of their own, one after another inside the block's loops.
        pub nests: Vec<NestSpec> where Either;
        /// Steps of a tile, see Time.
        pub phases: Vec<PhaseSpec> = Vec::new() => "the block takes its slowest unit";
        /// Einsums that alternate cycle by cycle on one array.
        pub interleave: Vec<Vec<Name>> = Vec::new() => "none";
        /// The software pipeline, see Time.
        pub pipeline: Option<PipelineSpec> => "none";
        /// Whether tiles that a condition of the cascade leaves empty are left out.
        pub skip_empty: bool = false;
        /// Where the block stands.
        pub span: Span where Span;
    } check |fields| {
        let message = match ["einsums", "nests"].map(|field| fields.has(field)) {
            [false, false] => "a block has neither `einsums` nor `nests`",
            [true, true] => "a block has both `einsums` and `nests`",
            _ => "",
        };
        if !message.is_empty() && fields.node().record().is_ok() {
            let problem = fields.node().problem(message);
            fields.push(problem.help("give one of the two"));
        }
    }
}

record! {
    /// Einsums that share loops inside a block.
    #[derive(Clone, Debug)]
    pub struct NestSpec = "a nest" {
        /// Temporal loops, outermost first, inside the block's.
        pub loops: Vec<Name> = Vec::new() => "none";
        /// What stays where while this nest runs.
        pub keep: Vec<KeepSpec> as keeps = Vec::new() => "nothing";
        /// The Einsums, in order, each named by its output.
        pub einsums: Vec<(Name, BindingSpec)>;
    }
}

record! {
    /// One Einsum's place.
    #[derive(Clone, Debug)]
    pub struct BindingSpec = "an Einsum's binding" {
        /// The array that computes it.
        pub unit: Name;
        /// The rank part that lies across the array's rows.
        pub rows: Choice<Option<Name>> = Choice::Fixed(None) => "one row works";
        /// The rank part that lies across the array's columns.
        pub columns: Choice<Option<Name>> = Choice::Fixed(None) => "one column works";
        /// Its own temporal loops, innermost of all.
        pub loops: Choice<Vec<Name>> = Choice::Fixed(Vec::new()) => "none";
        /// The loop at whose exit it runs, once for each iteration of the loops around that one and of those inside.
        pub at_exit_of: Option<Name> => "it runs in every iteration";
        /// Operators that the array performs as one, from the inside out: `["sub", "exp"]` is the operator `sub+exp`.
        pub chain: Vec<Name> = Vec::new() => "each by itself";
        /// The memory or array that an operand comes from.
        pub from: Vec<(Name, Name)> = Vec::new() => "the innermost memory that keeps it; without one, the array that makes it";
        /// The memory that takes partial results after every step.
        pub partials: Option<Name> => "they stay in the array's registers until they are whole";
    }
}

/// Where a tensor stays.
#[derive(Clone, Debug)]
pub struct KeepSpec {
    /// The tensor (a view stands for what it views).
    pub tensor: Name,
    /// Memories, outermost first; an array's name stands for its registers.
    pub places: Choice<Vec<PlaceSpec>>,
}

record! {
    /// One memory that keeps a tile of a tensor.
    #[derive(Clone, Debug)]
    pub struct PlaceSpec = "a place" {
        /// The memory; an array's name stands for its registers.
        pub memory: Name;
        /// The loop during one iteration of which the tile serves; `"searched"`: all searched loops.
        pub below: Option<Name> => "the whole tensor";
        /// Tiles held: 2 where the next one is loaded while this one is used, which takes its room twice.
        pub buffers: u64 as buffers = 1;
        /// Whether room is freed row by row rather than by the whole tile.
        pub freed_by_row("freed_by"): bool as freed_by = false => "`tile`";
        /// The part of the tile that is kept, 0 to 1, perhaps `table.COLUMN`; the rest lives in the next memory outward.
        pub share: Option<Expr> => "1";
        /// Whether the rest passes through this memory on its way (so that it is counted here too) or around it.
        pub spills_through("spills"): bool as spills = false => "`around`";
        /// A tensor whose room it takes over.
        pub in_place_of: Option<Name> => "room of its own";
        /// Whether the search may leave the place out.
        pub optional: bool = false;
    }
}

record! {
    /// One phase of a tile.
    #[derive(Clone, Debug)]
    pub struct PhaseSpec = "a phase" {
        /// The phase's name.
        pub name: String;
        /// The Einsums that run in it, in order; those on one unit follow one another, units run in parallel.
        pub einsums: Vec<Name>;
        /// Cycles in which the array drains before the phase.
        pub drain: Option<Expr> => "none";
    }
}

record! {
    /// A software pipeline: how many tiles each Einsum runs ahead of the tile that leaves the pipeline.
    #[derive(Clone, Debug)]
    pub struct PipelineSpec = "a pipeline" {
        /// Tiles ahead, by Einsum.
        pub offsets: Vec<(Name, u64)>;
        /// The loop at whose end the pipeline empties.
        pub drains_at: Option<Name> => "it runs on to the end of the block";
    }
}
