use einflow_spec::{
    Form, Key, Kind, Written,
    measure::{TIME, measure, split},
    quantity::{Bytes, BytesPerSecond, Cycles, Hertz, Picojoules, Seconds, SquareMicrometres},
    record, text,
};

use crate::check::{cost, positive, positive_if_given, rate_if_given};

record! {
    /// A memory. One access moves one row through one port.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Memory = "a memory" {
        /// The name, unique among memories and arrays.
        pub name: String where Key;
        /// Where its numbers come from.
        pub cited("source"): String as text;
        /// How much it holds; no bound for DRAM.
        pub capacity: Option<Bytes> as capacity;
        /// Width of one access.
        pub row: Bytes;
        /// Banks that work at the same time.
        pub banks: u64 = 1, in positive, "the number of banks";
        /// Ports, each of which reads or writes one row a cycle.
        pub ports: u64 = 1, in positive, "the number of ports";
        /// Peak rate of reads and writes together.
        pub bandwidth: Option<BytesPerSecond> => "ports and rows alone limit it", in rate_if_given, "the bandwidth";
        /// From a request to its first data, each way.
        pub latency: Latency;
        /// Requests that may be under way at once.
        pub outstanding: Option<u64> => "no limit", in positive_if_given, "the number of outstanding requests";
        /// Energy of reading one row.
        pub read_energy: Picojoules, in cost, "the energy of a read";
        /// Energy of writing one row.
        pub write_energy: Picojoules, in cost, "the energy of a write";
        /// Area of the whole memory on the chip; 0 for one off the chip.
        pub area: SquareMicrometres = SquareMicrometres(0.0) => "`area_per_bit` is given";
        /// Area of one bit, its share of the periphery included: the area then follows from the capacity.
        pub area_per_bit: Option<SquareMicrometres> => "`area` is given";
    } check |fields| {
        let given = ["area", "area_per_bit"].map(|field| fields.has(field));
        if given[0] == given[1] && fields.node().record().is_ok() {
            let problem = fields.problem("a memory has either `area` or `area_per_bit`");
            fields.push(
                problem.help("`area` is the whole memory's, in um^2; 0 for a memory off the chip"),
            );
        }
    }
}

/// A delay, as the file gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    /// In cycles of the accelerator's clock.
    Cycles(u64),
    /// In time, whatever the clock.
    Seconds(Seconds),
}

fn capacity() -> Form<Option<Bytes>> {
    Form {
        value: || format!("{}; or `unbounded`", (Bytes::form().value)()),
        read: |name, node| match &node.kind {
            Kind::Word(word) if word == "unbounded" => Ok(None),
            Kind::Word(_) => Err(node
                .expected("a number of bytes")
                .help("such as 16384, \"16 KiB\" or unbounded")
                .into()),
            _ => (Bytes::form().read)(name, node).map(Some),
        },
    }
}

/// `4` or `"4 cycles"` in cycles, `"300 ns"` in time.
impl Written for Latency {
    fn form() -> Form<Self> {
        Form {
            value: || "cycles, or with a unit: cycles, s, ms, us, ns, ps".into(),
            read: |_, node| {
                let Kind::Text(text, _) = &node.kind else {
                    return Ok(Latency::Cycles(node.u64()?));
                };
                if let Some((number, "cycles" | "cycle")) = split(text) {
                    let cycles = number.parse().map(Latency::Cycles);
                    return cycles.map_err(|_| node.expected("a whole number of cycles").into());
                }
                let help = "such as \"300 ns\" or \"4 cycles\"; units: cycles, s, ms, us, ns, ps";
                match measure(node, TIME) {
                    Ok(time) => Ok(Latency::Seconds(Seconds(time))),
                    Err(problem) => Err(problem.help(help).into()),
                }
            },
        }
    }
}

impl Latency {
    /// The delay in whole cycles of a clock, rounded up.
    pub fn cycles(self, clock: Hertz) -> Cycles {
        match self {
            Latency::Cycles(cycles) => Cycles(u128::from(cycles)),
            Latency::Seconds(time) => {
                let exact = time.0 * clock.0;
                let near = exact.round();
                // A product that should be whole (300 ns at 940 MHz) may be off in its last bits.
                Cycles(if (exact - near).abs() <= 1e-9 * exact {
                    near
                } else {
                    exact.ceil()
                } as u128)
            }
        }
    }
}

impl Memory {
    /// Rows that it holds; `None` if unbounded.
    pub fn rows(&self) -> Option<u128> {
        self.capacity.map(|capacity| capacity.0 / self.row.0)
    }

    /// Gives [`Memory::area`] the value that capacity and area of a bit imply, where the file gave those.
    pub(crate) fn derive_area(&mut self) {
        if let (Some(each), Some(capacity)) = (self.area_per_bit, self.capacity) {
            self.area = each * (capacity.0 as f64 * 8.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_in_time_rounds_up_to_cycles() {
        let clock = Hertz(940e6);
        assert_eq!(Latency::Seconds(Seconds(300e-9)).cycles(clock), Cycles(282)); // 0.3 us * 940 / us
        assert_eq!(Latency::Seconds(Seconds(301e-9)).cycles(clock), Cycles(283)); // 282.94
        assert_eq!(Latency::Seconds(Seconds(0.0)).cycles(clock), Cycles(0));
        assert_eq!(Latency::Cycles(4).cycles(clock), Cycles(4));
    }
}
