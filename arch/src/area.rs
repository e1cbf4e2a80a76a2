use einflow_spec::quantity::SquareMicrometres;

use crate::Accelerator;

/// Chip area, by part and component.
#[derive(Clone, Debug, PartialEq)]
pub struct AreaLedger {
    /// Arrays first, then memories, in the order of the file.
    pub entries: Vec<AreaEntry>,
}

/// One line of an [`AreaLedger`].
#[derive(Clone, Debug, PartialEq)]
pub struct AreaEntry {
    /// The array or memory.
    pub part: String,
    /// The component: `registers`, a functional unit, or `cells` for a memory.
    pub component: String,
    /// True for a part of an array.
    pub in_array: bool,
    /// Number of units.
    pub count: u128,
    /// Area of one.
    pub each: SquareMicrometres,
    /// Area of all.
    pub total: SquareMicrometres,
}

impl AreaLedger {
    /// All of it.
    pub fn total(&self) -> SquareMicrometres {
        self.entries.iter().map(|entry| entry.total).sum()
    }

    /// The arrays alone.
    pub fn arrays(&self) -> SquareMicrometres {
        self.entries
            .iter()
            .filter(|entry| entry.in_array)
            .map(|entry| entry.total)
            .sum()
    }

    /// One array or memory.
    pub fn part(&self, name: &str) -> SquareMicrometres {
        self.entries
            .iter()
            .filter(|entry| entry.part == name)
            .map(|entry| entry.total)
            .sum()
    }
}

impl Accelerator {
    /// Chip area: component x count x area for every array and memory.
    pub fn area(&self) -> AreaLedger {
        let mut entries = Vec::new();
        let mut add =
            |part: &str, component: &str, in_array, count: u128, each: SquareMicrometres| {
                entries.push(AreaEntry {
                    part: part.to_string(),
                    component: component.to_string(),
                    in_array,
                    count,
                    each,
                    total: each * count as f64,
                });
            };
        for array in &self.arrays {
            for (name, component) in &array.components {
                add(
                    &array.name,
                    name,
                    true,
                    array.pes() * u128::from(component.count),
                    component.area,
                );
            }
            add(
                &array.name,
                "registers",
                true,
                array.pes(),
                array.registers.area,
            );
        }
        for memory in &self.memories {
            add(&memory.name, "cells", false, 1, memory.area);
        }
        AreaLedger { entries }
    }
}
