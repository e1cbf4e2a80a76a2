use einflow_spec::Source;
use einflow_spec::quantity::{Bytes, Hertz, Picojoules};

use crate::{Array, Memory};

/// A spatial accelerator: a chain of memories and the arrays of processing elements (PEs) below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Accelerator {
    /// The name, as in the file.
    pub name: String,
    /// Where its numbers come from; each memory, array and component says more.
    pub cited: String,
    /// One or two sentences.
    pub description: String,
    /// The file, for messages about it.
    pub source: Source,
    /// The clock of every array and of the on-chip memories.
    pub clock: Hertz,
    /// The number format of a word.
    pub word: WordFormat,
    /// How accesses to the memories are counted.
    pub counting: Counting,
    /// The memories, outermost (the furthest from the arrays) first; at least one.
    pub memories: Vec<Memory>,
    /// The arrays, in the order of the file; at least one.
    pub arrays: Vec<Array>,
}

/// The number format of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WordFormat {
    /// bfloat16: 8 bits of exponent, 7 of fraction.
    Bf16,
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
}

impl WordFormat {
    /// Every format.
    pub const ALL: [WordFormat; 4] = [
        WordFormat::Bf16,
        WordFormat::F16,
        WordFormat::F32,
        WordFormat::F64,
    ];

    /// The name in files: `bf16`, `f16`, `f32` or `f64`.
    pub fn name(self) -> &'static str {
        match self {
            WordFormat::Bf16 => "bf16",
            WordFormat::F16 => "f16",
            WordFormat::F32 => "f32",
            WordFormat::F64 => "f64",
        }
    }

    /// The format of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Size of a word.
    pub fn bytes(self) -> Bytes {
        Bytes(match self {
            WordFormat::Bf16 | WordFormat::F16 => 2,
            WordFormat::F32 => 4,
            WordFormat::F64 => 8,
        })
    }
}

/// How accesses to the memories are counted. The rules differ where an output is read back, written
/// again or drained: Timeloop leaves some of those accesses out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counting {
    /// Every access that the hardware makes.
    Physical,
    /// Timeloop's rule: the first read of a partial sum is elided, the read that drains a tile upward is not counted, and a
    /// partial sum that returns is written to every instance that had the word before.
    Timeloop,
}

impl Counting {
    /// Every rule.
    pub const ALL: [Counting; 2] = [Counting::Physical, Counting::Timeloop];

    /// The name in files: `physical` or `timeloop`.
    pub fn name(self) -> &'static str {
        match self {
            Counting::Physical => "physical",
            Counting::Timeloop => "timeloop",
        }
    }

    /// The rule of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

impl Accelerator {
    /// A memory by name.
    pub fn memory(&self, name: &str) -> Option<&Memory> {
        self.memories.iter().find(|memory| memory.name == name)
    }

    /// An array by name.
    pub fn array(&self, name: &str) -> Option<&Array> {
        self.arrays.iter().find(|array| array.name == name)
    }

    /// A whole number of the accelerator, for size expressions: `array2d.rows`, `array2d.columns` (or
    /// `array2d.cols`), `array2d.pes`, `array2d.registers.words` (a PE's), `buffer.capacity`, `buffer.row` (both in
    /// bytes), `buffer.banks`, `buffer.ports`, `word.bytes`. An unbounded capacity has no value.
    pub fn lookup(&self, path: &str) -> Option<i128> {
        if path == "word.bytes" {
            return i128::try_from(self.word.bytes().0).ok();
        }
        let (part, field) = path.split_once('.')?;
        if let Some(array) = self.array(part) {
            return Some(match field {
                "rows" => i128::from(array.rows),
                "columns" | "cols" => i128::from(array.columns),
                "pes" => i128::try_from(array.pes()).ok()?,
                "registers.words" => i128::from(array.registers.words),
                _ => return None,
            });
        }
        let memory = self.memory(part)?;
        match field {
            "capacity" => i128::try_from(memory.capacity?.0).ok(),
            "row" => i128::try_from(memory.row.0).ok(),
            "banks" => Some(i128::from(memory.banks)),
            "ports" => Some(i128::from(memory.ports)),
            _ => None,
        }
    }

    /// Every path that [`Accelerator::lookup`] knows, for messages.
    pub fn names_for_lookup(&self) -> Vec<String> {
        let mut names = vec!["word.bytes".to_string()];
        for array in &self.arrays {
            names.extend(
                ["rows", "columns", "pes", "registers.words"]
                    .map(|field| format!("{}.{field}", array.name)),
            );
        }
        for memory in &self.memories {
            if memory.capacity.is_some() {
                names.push(format!("{}.capacity", memory.name));
            }
            names.extend(["row", "banks", "ports"].map(|field| format!("{}.{field}", memory.name)));
        }
        names
    }

    /// Parameters for which nothing is published and which therefore cost nothing unless the file states
    /// them: the paths of the control and link energies that are zero. A report should name them.
    pub fn uncharged(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for array in &self.arrays {
            if array.control_energy == Picojoules(0.0) {
                paths.push(format!("arrays.{}.control_energy", array.name));
            }
            for link in &array.links {
                if link.energy == Picojoules(0.0) {
                    paths.push(format!("arrays.{}.links.{}.energy", array.name, link.name));
                }
            }
        }
        paths
    }
}
