use einflow_spec::{
    Form, Kind, Node, NumberFormat, Problem, Problems, Record, Source, Span, by_name, choice,
    choices, named,
    quantity::{Hertz, Picojoules},
    record, text,
};

use crate::{
    Array, Memory,
    check::{Fault, rate},
};

record! {
    /// A spatial accelerator: a chain of memories and the arrays of processing elements (PEs) below it.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Accelerator = "an accelerator" {
        /// The name, as in the file.
        pub name: String as text;
        /// One or two sentences.
        pub description: String as text;
        /// Where its numbers come from; each memory, array and component says more.
        pub cited("source"): String as text;
        /// The file, for messages about it.
        pub source: Source where Source;
        /// The clock of every array and of the on-chip memories.
        pub clock: Hertz, in rate, "the clock";
        /// The number format of a word.
        pub word: NumberFormat as word;
        /// How accesses to the memories are counted: every one, or by Timeloop's rule, which leaves out first reads of partial sums and drains.
        pub counting: Counting = Counting::Physical => "`physical`";
        /// The memories, outermost (the furthest from the arrays) first; at least one.
        pub memories: Vec<Memory> as by_name;
        /// The arrays, in the order of the file; at least one.
        pub arrays: Vec<Array> as by_name;
    }
}

named! {
    /// How accesses to the memories are counted. The rules differ where an output is read back, written
    /// again or drained: Timeloop leaves some of those accesses out.
    pub enum Counting {
        /// Every access that the hardware makes.
        Physical = "physical",
        /// Timeloop's rule: the first read of a partial sum is elided, the read that drains a tile upward is not counted, and
        /// a partial sum that returns is written to every instance that had the word before.
        Timeloop = "timeloop",
    }
}

fn word() -> Form<NumberFormat> {
    Form {
        value: || choices(&NumberFormat::narrowest_first()),
        read: |_, node| Ok(choice(node, "", &NumberFormat::narrowest_first())?),
    }
}

impl Accelerator {
    /// Reads an accelerator file.
    ///
    /// # Errors
    /// Every mistake in it, each with its place.
    pub fn parse(source: &Source) -> Result<Self, Problems> {
        let node = Node::parse(source)?;
        let mut accelerator = <Self as Record>::read("", &node)?;
        accelerator
            .memories
            .iter_mut()
            .for_each(Memory::derive_area);
        let mut problems = Problems::new();
        for Fault {
            path,
            message,
            help,
        } in accelerator.faults()
        {
            problems.push(Problem::at(source, place(&node, &path), message).help(help));
        }
        problems.into_result(Some(accelerator))
    }
}

/// Where the value at a path stands, or the nearest struct around it.
fn place(node: &Node, path: &str) -> Span {
    let (mut at, mut rest) = (node, Some(path));
    while let Some(path) = rest {
        let Ok(entries) = at.record() else { break };
        let (name, inner) = path
            .split_once('.')
            .map_or((path, None), |(name, inner)| (name, Some(inner)));
        let Some((_, key, value)) = entries.iter().find(|(key, _, _)| key == name) else {
            break;
        };
        if matches!(value.kind, Kind::Record(_)) && inner.is_none() {
            return *key;
        }
        (at, rest) = (value, inner);
    }
    if rest.is_some() && matches!(at.kind, Kind::Record(_)) {
        return Span::new(at.span.start, at.span.start + 1);
    }
    at.span
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
