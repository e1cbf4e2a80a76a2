//! Links between devices, and what collectives take over them.

use std::sync::LazyLock;

use einflow_spec::{
    Library, Source, positive,
    quantity::{BytesPerSecond, Seconds},
    record, text,
};
use include_dir::{Dir, include_dir};
use indexmap::IndexMap;

use super::{Fitted, decode::operations, law};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/links");

static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    Library::new("link", "ron", crate::library::files(&FILES)).marked("operations")
});

/// The links that travel inside the binary.
pub fn links() -> &'static Library {
    &LIBRARY
}

record! {
    /// A link between devices, or between a device and its host.
    #[derive(Clone, Debug)]
    pub struct DeviceLink = "a link" {
        /// The name, as in the file.
        pub name: String as text;
        /// A sentence.
        pub description: String as text;
        /// Where it is published.
        pub cited("source"): String as text;
        /// The file.
        pub source: Source where Source;
        /// Its peak in one direction.
        pub bandwidth: BytesPerSecond as positive;
        /// Whether all devices of a host share it: then what runs at one time divides it.
        pub shared: bool = false;
        /// Latency and bandwidth of each operation: `send`, `all_reduce`, ...; a suffix tells the launch apart: `send:graph`.
        pub operations: IndexMap<String, Fitted> as operations;
    }
}

/// A way to reduce over n devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collective {
    /// Each passes its part to the next, twice round: every device sends 2 (n - 1) / n of the words.
    Ring,
    /// Each sends its words to every other: n - 1 times the words, in one step.
    Direct,
}

impl Collective {
    /// Bytes that a device sends, of `bytes` that are reduced over `devices`.
    pub fn sent(self, devices: u64, bytes: u64) -> f64 {
        let n = devices.max(1) as f64;
        let factor = match self {
            Collective::Ring => 2.0 * (n - 1.0) / n,
            Collective::Direct => n - 1.0,
        };
        factor * bytes as f64
    }
}

impl DeviceLink {
    /// One message, `sharers` devices using the link at once. `None`: the file says nothing of the operation.
    pub fn send(&self, operation: &str, bytes: u64, sharers: u64) -> Option<Seconds> {
        let peak = match self.shared {
            true => BytesPerSecond(self.bandwidth.0 / sharers.max(1) as f64),
            false => self.bandwidth,
        };
        let law = self.operations.get(operation)?;
        Some(seconds(law::transfer(peak, bytes as f64, 0, &law.values)))
    }

    /// A reduction of `bytes` over `devices`, each of which has the sum afterwards.
    pub fn all_reduce(
        &self,
        operation: &str,
        devices: u64,
        bytes: u64,
        how: Collective,
    ) -> Option<Seconds> {
        if devices < 2 {
            return Some(Seconds(0.0));
        }
        let law = self.operations.get(operation)?;
        let steps = match how {
            Collective::Ring => devices - 2,
            Collective::Direct => 0,
        };
        let sent = how.sent(devices, bytes);
        Some(seconds(law::transfer(
            self.bandwidth,
            sent,
            steps,
            &law.values,
        )))
    }
}

fn seconds(us: f64) -> Seconds {
    Seconds(us * 1e-6)
}
