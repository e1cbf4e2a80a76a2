//! The report's results by name, as its JSON object names them: what sweeps write, bound and rank.

use super::data::Report;

/// A result.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// A count, exactly.
    Whole(u128),
    /// A measure.
    Real(f64),
    /// A name.
    Text(String),
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Metric::Whole(value) => write!(f, "{value}"),
            Metric::Real(value) => write!(f, "{value}"),
            Metric::Text(value) => f.write_str(value),
        }
    }
}

impl Metric {
    /// The number; `None` for a name.
    pub fn number(&self) -> Option<f64> {
        match self {
            Metric::Whole(value) => Some(*value as f64),
            Metric::Real(value) => Some(*value),
            Metric::Text(_) => None,
        }
    }
}

impl Report {
    /// A result by its path in the report's JSON object (`utilization.array2d`, `dram_bytes.total`), or one of the
    /// short names: `dram_bytes` and `energy_pj` (the totals), `area_mm2`, `times_bound`, `bound_by.NAME` (1 where
    /// NAME is the bottleneck, else 0).
    pub fn metric(&self, path: &str) -> Option<Metric> {
        let (head, rest) = path.split_once('.').unwrap_or((path, ""));
        let real = |value: f64| Some(Metric::Real(value));
        let whole = |value: u128| Some(Metric::Whole(value));
        match (head, rest) {
            ("cycles", "") => whole(self.cycles()),
            ("seconds", "") => real(self.seconds()),
            ("dram_bytes", "" | "total") => whole(self.dram_bytes().2),
            ("dram_bytes", "read") => whole(self.dram_bytes().0),
            ("dram_bytes", "write") => whole(self.dram_bytes().1),
            ("energy_pj", "" | "total") => real(self.energy_pj()),
            ("energy_pj", _) => {
                let component = rest.strip_prefix("by_component.")?;
                self.energy_by_component()
                    .get(component)
                    .map(|e| Metric::Real(*e))
            }
            ("area_um2", "") => real(self.area_um2()),
            ("area_mm2", "") => real(self.area_um2() * 1e-6),
            ("area", "arrays_um2") => real(self.array_area_um2(None)),
            ("area", _) => match rest.split_once('.')? {
                ("by_array_um2", array) => self
                    .units
                    .contains_key(array)
                    .then(|| Metric::Real(self.array_area_um2(Some(array)))),
                ("by_component_um2", part) => {
                    let items = self.area.iter();
                    let item = items.rev().find(|i| i.component == part)?;
                    real(item.count as f64 * item.area)
                }
                _ => None,
            },
            ("utilization", unit) => self
                .units
                .contains_key(unit)
                .then(|| Metric::Real(self.utilization(unit))),
            ("utilization_by_einsum", _) => {
                let (unit, einsum) = rest.split_once('.')?;
                let share = self.utilization_by_einsum(unit).get(einsum).copied();
                share.map(Metric::Real)
            }
            ("occupancy_bytes", memory) => self.occupancy.get(memory).map(|b| Metric::Whole(*b)),
            ("bottleneck", "") => Some(Metric::Text(self.bottleneck())),
            ("bound_by", name) if !name.is_empty() => {
                real(f64::from(u8::from(self.bottleneck() == name)))
            }
            ("compute_seconds", "") => real(self.compute_seconds()),
            ("memory_seconds", "") => real(self.memory_seconds()),
            ("times_bound", "") => real(self.above_bound()),
            ("lower_bound", "compute_seconds") => real(self.lower_bound.compute_seconds),
            ("lower_bound", "dram_bytes") => whole(self.lower_bound.dram_bytes),
            ("inputs", size) => self
                .inputs
                .sizes
                .get(size)
                .map(|s| Metric::Whole(u128::from(*s))),
            _ => None,
        }
    }

    /// Every name that [`metric`](Self::metric) knows, but those with `bound_by`.
    pub fn metric_names(&self) -> Vec<String> {
        let mut names: Vec<String> = [
            "cycles",
            "seconds",
            "dram_bytes",
            "dram_bytes.read",
            "dram_bytes.write",
            "dram_bytes.total",
            "energy_pj",
            "energy_pj.total",
            "area_um2",
            "area_mm2",
            "area.arrays_um2",
            "bottleneck",
            "compute_seconds",
            "memory_seconds",
            "times_bound",
            "lower_bound.compute_seconds",
            "lower_bound.dram_bytes",
        ]
        .map(String::from)
        .to_vec();
        for unit in self.units.keys() {
            names.push(format!("utilization.{unit}"));
            names.push(format!("area.by_array_um2.{unit}"));
            for einsum in self.utilization_by_einsum(unit).keys() {
                names.push(format!("utilization_by_einsum.{unit}.{einsum}"));
            }
        }
        let components = self.energy_by_component();
        names.extend(
            components
                .keys()
                .map(|c| format!("energy_pj.by_component.{c}")),
        );
        let parts = self.area.iter();
        names.extend(parts.map(|i| format!("area.by_component_um2.{}", i.component)));
        names.extend(
            self.occupancy
                .keys()
                .map(|m| format!("occupancy_bytes.{m}")),
        );
        names.extend(self.inputs.sizes.keys().map(|s| format!("inputs.{s}")));
        names
    }
}
