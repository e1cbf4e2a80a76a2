//! Devices: real hardware by measured or fitted times, and accelerators of this simulator beside it.
//!
//! A device file (`arch/devices`) has a chip (its peaks), power and price, and one of three answers to "how long does this
//! take": *laws* (closed forms with fitted parameters, [`law`]), *tables* (measured times, interpolated) or an *accelerator*
//! with a mapping. This crate holds what a device is; `einflow-serving`'s `device` module asks it.

mod decode;
mod kernel;
pub mod law;
mod link;
mod number;

use std::sync::LazyLock;

use einflow_spec::{
    Library, Source, positive,
    quantity::{Bytes, BytesPerSecond, DollarsPerHour, OperationsPerSecond, Seconds, Watts},
    record, text, texts,
};
use include_dir::{Dir, include_dir};
use indexmap::IndexMap;

use decode::{microseconds, price, servers, units};
pub use kernel::{Attention, CHUNK, Kernel, Operands, Scales};
pub use link::{Collective, DeviceLink, links};
pub use number::Number;

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/devices");

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("device", "ron", crate::library::files(&FILES)).marked("chip"));

/// The devices that travel inside the binary.
pub fn devices() -> &'static Library {
    &LIBRARY
}

record! {
    /// A device.
    #[derive(Clone, Debug)]
    pub struct Device = "a device" {
        /// The name, as in the file.
        pub name: String as text;
        /// A sentence.
        pub description: String as text;
        /// Where the device is published.
        pub cited("source"): String as text;
        /// The file.
        pub source: Source where Source;
        /// Its peaks.
        pub chip: Chip;
        /// What it draws.
        pub power: Option<Power> => "energy is not answered";
        /// What it costs.
        pub price: Option<DollarsPerHour> as price => "cost is refused";
        /// Links that it has, by name.
        pub links: Vec<String> as texts = Vec::new() => "none";
        /// How kernels follow one another in a captured graph.
        pub graph: Option<Graph> => "a decode step over two devices is refused";
        /// With `tables`: the device whose laws answer, in a graph, for what they lack, each answer flagged.
        pub analytic: Option<String> as text => "what tables lack is refused";
        /// Folders of tables measured in a server, by model, from which `einflow replay` takes steps: whole layers by tokens (`dense.csv`,
        /// `per_sequence.csv`), attention by what a step mixes (`attention.csv`).
        pub servers: IndexMap<String, String> as servers = IndexMap::new() => "steps are the sum of kernels";
        /// How long things take on it.
        pub times: Times where Times;
    } check |fields| {
        let tabled = matches!(times, Some(Times::Tables(_)));
        if matches!(analytic, Some(Some(_))) && !tabled {
            let problem = fields.node().problem("only tables lack what `analytic` answers");
            fields.push(problem.help("leave it out, or answer by `tables`"));
        }
        if let (Some(Some(graph)), Some(chip)) = (&graph, &chip)
            && graph.transfer_units >= chip.units
        {
            let problem = fields.node().problem(format!(
                "a message cannot hold {} units of a chip that has {}",
                graph.transfer_units, chip.units
            ));
            fields.push(problem);
        }
    }
}

record! {
    /// What a chip can do at best.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Chip = "a chip" {
        unread source: String as text;
        /// Units that run blocks of work side by side (streaming multiprocessors).
        pub units: u64 as units;
        /// Dense products of 16-bit words.
        pub matrix: OperationsPerSecond as positive;
        /// Dense products of 8-bit words.
        pub matrix_8bit: Option<OperationsPerSecond> as positive => "as of 16-bit words";
        /// Memory.
        pub memory: Bytes;
        /// Its peak.
        pub bandwidth: BytesPerSecond as positive;
        /// The last-level cache.
        pub cache: Bytes;
    }
}

impl Chip {
    /// What its matrix units do at best of operands of so many bits.
    pub fn peak(&self, bits: u64) -> OperationsPerSecond {
        match self.matrix_8bit {
            Some(rate) if bits <= 8 => rate,
            _ => self.matrix,
        }
    }
}

record! {
    /// How kernels follow one another in a captured graph.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Graph = "how kernels follow one another" {
        unread source: String as text;
        /// Between two kernels of which the second needs the first, beyond what a chain of alike ones shows.
        pub gap: Seconds as microseconds;
        /// Units lost to all else while a kernel moves a message, or waits for one.
        pub transfer_units: u64;
        /// What flushing the cache before a kernel that is timed alone leaves to be written back beside it.
        pub dirty: Bytes;
    }
}

record! {
    /// What a device draws.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Power = "what a device draws" {
        unread source: String as text;
        /// Doing nothing.
        pub idle: Watts as positive;
        /// The limit of the board: it slows down rather than exceed it.
        pub limit: Watts as positive;
        /// The limit under which the times of its laws or tables were measured: a lower one slows what would draw more.
        pub measured_limit: Option<Watts> as positive => "the times are those without a limit";
        /// Beyond idling, whatever it runs.
        pub active: Watts as positive;
        /// Of a score that attention exponentiates, in picojoules beyond running.
        pub score: Option<f64> as positive => "not known";
        /// Of an operation of a product, in picojoules beyond running.
        pub operation: Option<f64> as positive => "not known";
        /// Of a byte that a product or attention reads or writes in memory, in picojoules beyond running.
        pub byte: Option<f64> as positive => "not known";
        /// Of a byte that a pass over memory reads or writes, in picojoules beyond running.
        pub copied_byte: Option<f64> as positive => "not known";
    }
}

/// How a device answers.
#[derive(Clone, Debug)]
pub enum Times {
    /// Closed forms.
    Laws(IndexMap<String, Fitted>),
    /// Measured tables, by path.
    Tables(Vec<String>),
    /// An accelerator of this simulator.
    Accelerator(Modelled),
}

/// A law's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// Where they come from.
    pub cited: String,
    /// Their values, in the order of the law's parameters.
    pub values: Vec<f64>,
    /// The shortest and the longest time that they were fitted to, in microseconds (`shortest`, `longest`).
    pub times: [Option<f64>; 2],
}

impl Fitted {
    /// Whether a time is half of the shortest that was measured or less, or twice the longest or more.
    pub fn beyond(&self, time: Seconds) -> bool {
        let us = time.0 * 1e6;
        let [shortest, longest] = self.times;
        shortest.is_some_and(|s| us < s / 2.0) || longest.is_some_and(|l| us > l * 2.0)
    }
}

record! {
    /// An accelerator as a device.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Modelled = "an accelerator as a device" {
        unread source: Option<String> as text => "the accelerator's";
        /// The accelerator file.
        pub accelerator("name"): String as text;
        /// The mapping of attention.
        pub mapping: String as text;
        /// The mapping of causal attention.
        pub causal("causal_mapping"): Option<String> as text => "the same";
    }
}

/// The operator of a law's name: `decode` of `decode:flash`, `prefill` of `divided:prefill:flash`.
pub fn operator(law: &str) -> &str {
    let own = law.strip_prefix("divided:").unwrap_or(law);
    own.split(':').next().unwrap_or(own)
}

/// Names of laws, as in a device file. A suffix tells the library or the launch apart: `decode:flash`, `product:graph`;
/// `divided:` before it, that devices which divide the work launch it.
pub fn law_parameters(name: &str) -> Option<&'static [law::Parameter]> {
    match operator(name) {
        "product" => Some(law::PRODUCT),
        "decode" => Some(law::DECODE),
        "prefill" => Some(law::PREFILL),
        "pass" => Some(law::PASS),
        "latent" => Some(law::LATENT),
        "grouped" => Some(law::GROUPED),
        "ragged" => Some(law::RAGGED),
        "ragged-cores" => Some(law::RAGGED_CORES),
        "masked" => Some(law::MASKED),
        "chunked" => Some(law::CHUNKED),
        _ => None,
    }
}

impl Device {
    /// The time of a kernel by the named law; none where the device has no such law, or answers otherwise.
    ///
    /// `flushed`: nothing of the kernel's data is in the cache when it begins.
    pub fn by_law(&self, name: &str, kernel: &Kernel, flushed: bool) -> Option<Seconds> {
        let Times::Laws(laws) = &self.times else {
            return None;
        };
        let law = laws.get(name)?;
        Some(law::time(&self.chip, kernel, &law.values, flushed))
    }

    /// The same while something else holds `held` units of the chip.
    pub fn by_law_beside(
        &self,
        name: &str,
        kernel: &Kernel,
        flushed: bool,
        held: u64,
    ) -> Option<Seconds> {
        let Times::Laws(laws) = &self.times else {
            return None;
        };
        let values = &laws.get(name)?.values;
        let call = law::Call::new(&self.chip, kernel, flushed, held);
        Some(call.time(values))
    }

    /// The same with these parameters of the law left out: `ramp` of a stream that nothing slows at its start, those of
    /// the host where a graph is launched.
    pub fn by_law_without(
        &self,
        name: &str,
        kernel: &Kernel,
        flushed: bool,
        parameters: &[&str],
    ) -> Option<Seconds> {
        let Times::Laws(laws) = &self.times else {
            return None;
        };
        let mut values = laws.get(name)?.values.clone();
        let known = law::parameters(kernel).iter();
        for (_, value) in known
            .zip(&mut values)
            .filter(|(p, _)| parameters.contains(&p.name))
        {
            *value = 0.0;
        }
        Some(law::time(&self.chip, kernel, &values, flushed))
    }

    /// What makes a time by the named law less sure: the host bounds it (where it launches), or it is far from those that
    /// the law was fitted to.
    pub fn doubts(&self, name: &str, kernel: &Kernel, time: Seconds, eager: bool) -> Vec<String> {
        let Times::Laws(laws) = &self.times else {
            return Vec::new();
        };
        let Some(law) = laws.get(name) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        if law.beyond(time) {
            out.push(format!("`{name}` beyond the times that it was fitted to"));
        }
        // Launching and running overlap by the fourth power: half each at 2^(1/4) of either.
        let host = law::Call::new(&self.chip, kernel, true, 0).host(&law.values);
        if eager && host.is_some_and(|us| us * 1e-6 > 0.84 * time.0) {
            out.push(format!(
                "`{name}`: the host that launches it takes about as long"
            ));
        }
        out
    }

    /// What attention over a cache takes longer by the named law where so much of the cache has to be written back.
    pub fn written_back(&self, name: &str, kernel: &Kernel, dirty: Bytes) -> Option<Seconds> {
        let (Times::Laws(laws), Kernel::Decode(a)) = (&self.times, kernel) else {
            return None;
        };
        let us = law::written_back(&self.chip, a, &laws.get(name)?.values, dirty.0 as f64);
        Some(Seconds(us * 1e-6))
    }
}
