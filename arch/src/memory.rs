use einflow_spec::quantity::{
    Bytes, BytesPerSecond, Cycles, Hertz, Picojoules, Seconds, SquareMicrometres,
};

/// A memory. One access moves one row through one port.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// The name, unique among memories and arrays.
    pub name: String,
    /// Where its numbers come from.
    pub cited: String,
    /// How much it holds; `None` for an unbounded memory (DRAM).
    pub capacity: Option<Bytes>,
    /// Width of one access.
    pub row: Bytes,
    /// Banks that work at the same time.
    pub banks: u64,
    /// Ports, each of which reads or writes one row a cycle.
    pub ports: u64,
    /// Peak rate of reads and writes together; `None` where ports and rows alone limit it.
    pub bandwidth: Option<BytesPerSecond>,
    /// From a request to its first data, each way.
    pub latency: Latency,
    /// Requests that may be under way at once; `None` for no limit.
    pub outstanding: Option<u64>,
    /// Energy of reading one row.
    pub read_energy: Picojoules,
    /// Energy of writing one row.
    pub write_energy: Picojoules,
    /// Area of the whole memory on the chip.
    pub area: SquareMicrometres,
    /// Area of one bit, its share of the periphery included, where [`Memory::area`] follows from the capacity.
    pub area_per_bit: Option<SquareMicrometres>,
}

/// A delay, as the file gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    /// In cycles of the accelerator's clock.
    Cycles(u64),
    /// In time, whatever the clock.
    Seconds(Seconds),
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
