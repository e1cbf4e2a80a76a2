//! What an accelerator's numbers must satisfy, whether they come from a file or from a sweep.

use einflow_spec::{Check, Record, did_you_mean, quantity::Quantity};

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

    fn check<T>(&mut self, path: String, check: Check<T>, what: &str, value: T) {
        if let Some((message, help)) = (check.fault)(&value, what) {
            self.push(path, message, help);
        }
    }

    /// What the fields of a struct at a path may not be.
    fn fields(&mut self, at: &str, name: &str, record: &impl Record) {
        let dot = if at.is_empty() { "" } else { "." };
        record.faults(name, &mut |field, message, help| {
            self.push(format!("{at}{dot}{field}"), message, help);
        });
    }
}

/// Counts of what there is.
pub(crate) fn positive() -> Check<u64> {
    Check {
        says: "1 to 2^24",
        fault: |value, what| match *value {
            0 => Some((
                format!("{what} is zero"),
                "a whole number of at least 1 would do",
            )),
            _ => (few().fault)(value, what),
        },
    }
}

pub(crate) fn positive_if_given() -> Check<Option<u64>> {
    Check {
        says: positive().says,
        fault: |value, what| (positive().fault)(value.as_ref()?, what),
    }
}

/// Counts of what there may not be.
pub(crate) fn few() -> Check<u64> {
    Check {
        says: "up to 2^24",
        fault: |value, what| {
            let fault = || (format!("{what} is {value}"), "at most 2^24 is accepted");
            (*value > MOST).then(fault)
        },
    }
}

/// What something takes.
pub(crate) fn cost<Q: Quantity>() -> Check<Q> {
    Check {
        says: "at least 0",
        fault: |value, what| {
            let value = value.number();
            let fault = || {
                (
                    format!("{what} is {value}"),
                    "a finite number of at least 0 would do",
                )
            };
            (!(value.is_finite() && value >= 0.0)).then(fault)
        },
    }
}

pub(crate) fn rate<Q: Quantity>() -> Check<Q> {
    Check {
        says: "above 0",
        fault: |value, what| {
            let value = value.number();
            let fault = || {
                (
                    format!("{what} is {value}"),
                    "a finite number above 0 would do",
                )
            };
            (!(value.is_finite() && value > 0.0)).then(fault)
        },
    }
}

pub(crate) fn rate_if_given<Q: Quantity>() -> Check<Option<Q>> {
    Check {
        says: rate::<Q>().says,
        fault: |value, what| (rate().fault)(value.as_ref()?, what),
    }
}

impl Accelerator {
    /// Everything wrong with it.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = Faults(Vec::new());
        faults.fields("", &self.name, self);
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
        faults.fields(&format!("memories.{}", memory.name), &memory.name, memory);
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
                faults.check(at("latency"), cost(), "the latency", time);
                if time.0 > 1.0 {
                    faults.push(
                        at("latency"),
                        format!("the latency is {} s", time.0),
                        "at most 1 s is accepted",
                    );
                }
            }
        }
        if let Some(each) = memory.area_per_bit {
            faults.check(at("area_per_bit"), cost(), "the area of a bit", each);
        } else {
            faults.check(at("area"), cost(), "the area", memory.area);
        }
    }

    fn check_array(&self, array: &Array, faults: &mut Faults) {
        let at = |field: &str| format!("arrays.{}.{field}", array.name);
        faults.fields(&format!("arrays.{}", array.name), &array.name, array);
        let registers = &array.registers;
        if registers.words > MOST {
            faults.push(
                at("registers.words"),
                format!("{} register words", registers.words),
                "at most 2^24 is accepted",
            );
        }
        faults.fields(&at("registers"), &array.name, registers);
        for (name, component) in &array.components {
            faults.fields(&at(&format!("components.{name}")), name, component);
        }
        for (name, operator) in &array.operators {
            let field = |field: &str| at(&format!("operators.{name}.{field}"));
            faults.fields(&at(&format!("operators.{name}")), name, operator);
            for (component, count) in &operator.actions {
                let path = field(&format!("actions.{component}"));
                if array.components.contains_key(component) {
                    let what = format!("the number of {component} actions of {name}");
                    faults.check(path, positive(), &what, *count);
                } else {
                    let message = format!(
                        "the operator `{name}` uses `{component}`, which {} does not have",
                        array.name
                    );
                    let known = array.components.keys().map(String::as_str);
                    faults.push(path, message, did_you_mean(component, known));
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
            faults.fields(&at(&format!("links.{}", link.name)), &link.name, link);
            if link.latency > MOST {
                faults.push(
                    field("latency"),
                    format!("the latency is {} cycles", link.latency),
                    "at most 2^24 is accepted",
                );
            }
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
