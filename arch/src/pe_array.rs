use einflow_spec::{
    named,
    quantity::{Picojoules, SquareMicrometres},
};
use indexmap::IndexMap;

use crate::Link;

/// An array of equal processing elements (PEs) with statically scheduled links.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The name, unique among memories and arrays.
    pub name: String,
    /// Where its numbers come from.
    pub cited: String,
    /// Rows of PEs, from the top.
    pub rows: u64,
    /// Columns of PEs, from the left.
    pub columns: u64,
    /// What a PE computes, by the operator's name: `mac` (a product added to a sum), the element functions of Einsums
    /// (`add`, `sub`, `mul`, `div`, `max`, `exp`, ...), and chains such as `sub+exp` that a PE takes as one.
    pub operators: IndexMap<String, Operator>,
    /// What a PE is made of, besides its registers.
    pub components: IndexMap<String, Component>,
    /// The register file of each PE.
    pub registers: Registers,
    /// Links that begin or end at PEs of this array.
    pub links: Vec<Link>,
    /// Energy of sequencing one PE for one cycle in which it works.
    pub control_energy: Picojoules,
}

/// How a PE carries out one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// Cycles until the PE can begin the next operation.
    pub cycles: u64,
    /// Components used, and how often each.
    pub actions: Vec<(String, u64)>,
    /// Register words read, operands that pass through included.
    pub register_reads: u64,
    /// Register words written, operands latched on arrival included.
    pub register_writes: u64,
    /// What its function's values are computed with; `None`: the function itself, rounded once. Of a chain it is the last function.
    pub computes: Option<Polynomial>,
}

/// A polynomial that a PE evaluates by MACs (Horner's rule) in place of a function of one operand.
#[derive(Clone, Debug, PartialEq)]
pub struct Polynomial {
    /// The coefficients, of the power 0 first; at least one.
    pub coefficients: Vec<f64>,
    /// How the operand is first brought near 0; `None`: not at all.
    pub reduction: Option<RangeReduction>,
}

named! {
    /// How the operand of a [`Polynomial`] is first brought near 0.
    pub enum RangeReduction {
        /// Of an exponential: `exp(x) = 2^n exp(x - n ln 2)` for the whole number `n` nearest to `x / ln 2`.
        Ln2 = "ln2",
    }
}

/// A functional unit of a PE.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// Where its numbers come from.
    pub cited: String,
    /// Energy of one action.
    pub energy: Picojoules,
    /// Area of one unit.
    pub area: SquareMicrometres,
    /// Units in each PE.
    pub count: u64,
}

/// The register file of one PE.
#[derive(Clone, Debug, PartialEq)]
pub struct Registers {
    /// Where its numbers come from.
    pub cited: String,
    /// Words in each PE.
    pub words: u64,
    /// Energy of reading one word.
    pub read_energy: Picojoules,
    /// Energy of writing one word.
    pub write_energy: Picojoules,
    /// Area of one PE's file.
    pub area: SquareMicrometres,
}

impl Array {
    /// Number of PEs.
    pub fn pes(&self) -> u128 {
        u128::from(self.rows) * u128::from(self.columns)
    }

    /// An operator by name.
    pub fn operator(&self, name: &str) -> Option<&Operator> {
        self.operators.get(name)
    }

    /// Energy of the components of one operation, without registers and control. `None` for an unknown operator.
    pub fn energy_of(&self, operator: &str) -> Option<Picojoules> {
        let operator = self.operators.get(operator)?;
        operator
            .actions
            .iter()
            .map(|(component, count)| Some(self.components.get(component)?.energy * *count as f64))
            .sum()
    }
}
