//! What an accelerator's numbers must satisfy, whether they come from a file or from a sweep.

use einflow_spec::did_you_mean;

use crate::{Accelerator, Array, Latency, Memory, Polynomial, RangeReduction};

/// Arrays and counts beyond this are slips, and products of two stay far below 128 bits.
const MOST: u64 = 1 << 24;

/// A longer polynomial is a slip: one of 32 coefficients is below the last bit of binary64 near 0 for any function here.
const MOST_COEFFICIENTS: usize = 32;

/// Operators of two operands; a polynomial has one.
const TWO_OPERANDS: [&str; 8] = ["mac", "add", "sub", "mul", "div", "max", "min", "pow"];

/// Something wrong with the number or name at a path (`memories.buffer.row`).
pub(crate) struct Fault {
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) help: String,
}

struct Faults(Vec<Fault>);

impl Faults {
    fn push(&mut self, path: String, message: impl Into<String>, help: impl Into<String>) {
        self.0.push(Fault {
            path,
            message: message.into(),
            help: help.into(),
        });
    }

    fn positive(&mut self, path: String, what: &str, value: u64) {
        if value == 0 {
            self.push(
                path,
                format!("{what} is zero"),
                "a whole number of at least 1 would do",
            );
        } else if value > MOST {
            self.push(
                path,
                format!("{what} is {value}"),
                "at most 2^24 is accepted",
            );
        }
    }

    fn cost(&mut self, path: String, what: &str, value: f64) {
        if !(value.is_finite() && value >= 0.0) {
            self.push(
                path,
                format!("{what} is {value}"),
                "a finite number of at least 0 would do",
            );
        }
    }

    fn rate(&mut self, path: String, what: &str, value: f64) {
        if !(value.is_finite() && value > 0.0) {
            self.push(
                path,
                format!("{what} is {value}"),
                "a finite number above 0 would do",
            );
        }
    }
}

impl Accelerator {
    /// Everything wrong with it.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = Faults(Vec::new());
        faults.rate("clock".into(), "the clock", self.clock.0);
        for (map, what, empty) in [
            ("memories", "memory", self.memories.is_empty()),
            ("arrays", "array", self.arrays.is_empty()),
        ] {
            if empty {
                faults.push(
                    map.into(),
                    format!("an accelerator has at least one {what}"),
                    format!("add a {what}"),
                );
            }
        }
        for memory in &self.memories {
            self.check_memory(memory, &mut faults);
            self.check_name(
                &format!("memories.{}", memory.name),
                &memory.name,
                &mut faults,
            );
        }
        for array in &self.arrays {
            let path = format!("arrays.{}", array.name);
            self.check_name(&path, &array.name, &mut faults);
            if self.memory(&array.name).is_some() {
                let help = "names of memories and arrays are distinct";
                faults.push(
                    path,
                    format!("`{}` already names a memory", array.name),
                    help,
                );
            }
            self.check_array(array, &mut faults);
        }
        faults.0
    }

    fn check_name(&self, path: &str, name: &str, faults: &mut Faults) {
        let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !plain || name == "word" {
            let help = "a letter, then letters, digits and `_` (size expressions name it), other than `word`";
            faults.push(
                path.into(),
                format!("`{name}` cannot name a memory or an array"),
                help,
            );
        }
    }

    fn check_memory(&self, memory: &Memory, faults: &mut Faults) {
        let at = |field: &str| format!("memories.{}.{field}", memory.name);
        let (row, word) = (memory.row.0, self.word.bytes().0);
        if row == 0 {
            faults.push(
                at("row"),
                "the row is zero bytes wide",
                format!("a multiple of {word} B would do"),
            );
        } else if row % word != 0 {
            let message = format!("a row of {row} B does not hold whole words of {word} B");
            faults.push(
                at("row"),
                message,
                format!("a multiple of {word} B would do"),
            );
        }
        if let Some(capacity) = memory.capacity {
            if capacity.0 == 0 {
                faults.push(
                    at("capacity"),
                    "the capacity is zero",
                    "a multiple of the row, or `unbounded`, would do",
                );
            } else if row > 0 && capacity.0 % row != 0 {
                let message = format!(
                    "a row of {row} B does not divide the capacity of {} B",
                    capacity.0
                );
                let down = capacity.0 / row * row;
                let near = if down > 0 { down } else { row };
                faults.push(at("capacity"), message, format!("{near} would do"));
            }
        } else if memory.area_per_bit.is_some() {
            faults.push(
                at("area_per_bit"),
                "an unbounded memory has no area that follows its capacity",
                "give `area`",
            );
        }
        faults.positive(at("banks"), "the number of banks", memory.banks);
        faults.positive(at("ports"), "the number of ports", memory.ports);
        if let Some(bandwidth) = memory.bandwidth {
            faults.rate(at("bandwidth"), "the bandwidth", bandwidth.0);
        }
        match memory.latency {
            Latency::Cycles(cycles) if cycles > MOST => {
                faults.push(
                    at("latency"),
                    format!("the latency is {cycles} cycles"),
                    "at most 2^24 is accepted",
                );
            }
            Latency::Cycles(_) => {}
            Latency::Seconds(time) => {
                faults.cost(at("latency"), "the latency", time.0);
                if time.0 > 1.0 {
                    faults.push(
                        at("latency"),
                        format!("the latency is {} s", time.0),
                        "at most 1 s is accepted",
                    );
                }
            }
        }
        if let Some(outstanding) = memory.outstanding {
            faults.positive(
                at("outstanding"),
                "the number of outstanding requests",
                outstanding,
            );
        }
        faults.cost(
            at("read_energy"),
            "the energy of a read",
            memory.read_energy.0,
        );
        faults.cost(
            at("write_energy"),
            "the energy of a write",
            memory.write_energy.0,
        );
        if let Some(each) = memory.area_per_bit {
            faults.cost(at("area_per_bit"), "the area of a bit", each.0);
        } else {
            faults.cost(at("area"), "the area", memory.area.0);
        }
    }

    fn check_array(&self, array: &Array, faults: &mut Faults) {
        let at = |field: &str| format!("arrays.{}.{field}", array.name);
        faults.positive(at("rows"), "the number of rows", array.rows);
        faults.positive(at("columns"), "the number of columns", array.columns);
        faults.cost(
            at("control_energy"),
            "the energy of control",
            array.control_energy.0,
        );
        let registers = &array.registers;
        if registers.words > MOST {
            faults.push(
                at("registers.words"),
                format!("{} register words", registers.words),
                "at most 2^24 is accepted",
            );
        }
        faults.cost(
            at("registers.read_energy"),
            "the energy of a register read",
            registers.read_energy.0,
        );
        faults.cost(
            at("registers.write_energy"),
            "the energy of a register write",
            registers.write_energy.0,
        );
        faults.cost(
            at("registers.area"),
            "the area of the registers",
            registers.area.0,
        );
        for (name, component) in &array.components {
            let field = |field: &str| at(&format!("components.{name}.{field}"));
            faults.cost(
                field("energy"),
                &format!("the energy of {name}"),
                component.energy.0,
            );
            faults.cost(
                field("area"),
                &format!("the area of {name}"),
                component.area.0,
            );
            faults.positive(
                field("count"),
                &format!("the number of {name} units"),
                component.count,
            );
        }
        for (name, operator) in &array.operators {
            let field = |field: &str| at(&format!("operators.{name}.{field}"));
            faults.positive(
                field("cycles"),
                &format!("the cycles of {name}"),
                operator.cycles,
            );
            for (component, count) in &operator.actions {
                let path = field(&format!("actions.{component}"));
                if array.components.contains_key(component) {
                    faults.positive(
                        path,
                        &format!("the number of {component} actions of {name}"),
                        *count,
                    );
                } else {
                    let message = format!(
                        "the operator `{name}` uses `{component}`, which {} does not have",
                        array.name
                    );
                    let known = array.components.keys().map(String::as_str);
                    faults.push(path, message, did_you_mean(component, known));
                }
            }
            for (what, count) in [
                ("register_reads", operator.register_reads),
                ("register_writes", operator.register_writes),
            ] {
                if count > MOST {
                    faults.push(
                        field(what),
                        format!("{what} is {count}"),
                        "at most 2^24 is accepted",
                    );
                }
            }
            if let Some(polynomial) = &operator.computes {
                check_polynomial(name, polynomial, &field("computes"), faults);
            }
        }
        for link in &array.links {
            let field = |field: &str| at(&format!("links.{}.{field}", link.name));
            for (end, place) in [("from", &link.from), ("to", &link.to)] {
                if let Some(place) = place
                    && self.memory(place).is_none()
                    && self.array(place).is_none()
                {
                    let known = self
                        .memories
                        .iter()
                        .map(|m| &m.name)
                        .chain(self.arrays.iter().map(|a| &a.name));
                    let message = format!(
                        "the link `{}` names `{place}`, which is no memory or array",
                        link.name
                    );
                    faults.push(
                        field(end),
                        message,
                        did_you_mean(place, known.map(String::as_str)),
                    );
                }
            }
            if let (Some(_), Some(_)) = (&link.from, &link.to) {
                let help =
                    "a link inside the array leaves both out; one end of any other is this array";
                faults.push(
                    field("to"),
                    format!("the link `{}` has both `from` and `to`", link.name),
                    help,
                );
            }
            faults.positive(
                field("words_per_cycle"),
                "the words a cycle",
                link.words_per_cycle,
            );
            if link.latency > MOST {
                faults.push(
                    field("latency"),
                    format!("the latency is {} cycles", link.latency),
                    "at most 2^24 is accepted",
                );
            }
            faults.cost(field("energy"), "the energy of a word", link.energy.0);
        }
    }
}

/// Checks what the operator `name` computes, at `path`.
fn check_polynomial(name: &str, polynomial: &Polynomial, path: &str, faults: &mut Faults) {
    let at = |field: &str| format!("{path}.{field}");
    let function = name.rsplit('+').next().unwrap_or(name);
    if TWO_OPERANDS.contains(&function) {
        faults.push(
            at("polynomial"),
            format!("`{function}` takes two operands, a polynomial one"),
            "leave `computes` out: it is computed as it is",
        );
    }
    match polynomial.coefficients.len() {
        0 => faults.push(
            at("polynomial"),
            format!("the polynomial of {name} has no coefficient"),
            "coefficients, of the power 0 first, such as [1, 1, 0.5]",
        ),
        n if n > MOST_COEFFICIENTS => faults.push(
            at("polynomial"),
            format!("the polynomial of {name} has {n} coefficients"),
            format!("at most {MOST_COEFFICIENTS} are accepted"),
        ),
        _ => {}
    }
    if polynomial.reduction == Some(RangeReduction::Ln2) && function != "exp" {
        faults.push(
            at("reduction"),
            format!("`ln2` reduces the operand of `exp`, not of `{function}`"),
            "leave `reduction` out",
        );
    }
}
