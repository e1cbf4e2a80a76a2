use einflow_spec::{
    Form, Key, Node, Problem, by_name, list, map, named,
    quantity::{Picojoules, SquareMicrometres},
    record, text,
};
use indexmap::IndexMap;

use crate::{
    Link,
    check::{cost, few, positive},
};

record! {
    /// An array of equal processing elements (PEs) with statically scheduled links.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Array = "an array" {
        /// The name, unique among memories and arrays.
        pub name: String where Key;
        /// Where its numbers come from.
        pub cited("source"): String as text;
        /// Rows of PEs, from the top.
        pub rows: u64, in positive, "the number of rows";
        /// Columns of PEs, from the left.
        pub columns: u64, in positive, "the number of columns";
        /// What a PE is made of, besides its registers.
        pub components: IndexMap<String, Component>;
        /// What a PE computes, by the operator's name: `mac` (a product added to a sum), the element functions of Einsums
        /// (`add`, `sub`, `mul`, `div`, `max`, `exp`, ...), and chains such as `sub+exp` that a PE takes as one.
        pub operators: IndexMap<String, Operator>;
        /// The register file of each PE.
        pub registers: Registers;
        /// Links that begin or end at PEs of this array.
        pub links: Vec<Link> as by_name = Vec::new() => "no link";
        /// Energy of sequencing one PE for one cycle in which it works.
        pub control_energy: Picojoules = Picojoules(0.0) => "0, and reported as not charged", in cost, "the energy of control";
    }
}

record! {
    /// How a PE carries out one operation.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Operator = "an operator" {
        // An operator's numbers may have a source of their own; otherwise the array's covers them.
        unread source: Option<String> as text => "the array's";
        /// Cycles until the PE can begin the next operation.
        pub cycles: u64, in positive, "the cycles of {}";
        /// Components used, and how often each.
        pub actions: Vec<(String, u64)> as actions;
        /// Register words read, operands that pass through included.
        pub register_reads: u64, in few, "register_reads";
        /// Register words written, operands latched on arrival included.
        pub register_writes: u64, in few, "register_writes";
        /// What its function's values are computed with. Of a chain it is the last function.
        pub computes: Option<Polynomial> => "the function itself, rounded once";
    }
}

record! {
    /// A polynomial that a PE evaluates by MACs (Horner's rule) in place of a function of one operand.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Polynomial = "a computation" {
        /// The coefficients, of the power 0 first; 1 to 32.
        pub coefficients("polynomial"): Vec<f64> as coefficients;
        /// How the operand is first brought near 0.
        pub reduction: Option<RangeReduction> => "not at all";
    }
}

named! {
    /// How the operand of a [`Polynomial`] is first brought near 0.
    pub enum RangeReduction {
        /// Of an exponential: `exp(x) = 2^n exp(x - n ln 2)` for the whole number `n` nearest to `x / ln 2`.
        Ln2 = "ln2",
    }
}

record! {
    /// A functional unit of a PE.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Component = "a component" {
        /// Where its numbers come from.
        pub cited("source"): String as text;
        /// Energy of one action.
        pub energy: Picojoules, in cost, "the energy of {}";
        /// Area of one unit.
        pub area: SquareMicrometres, in cost, "the area of {}";
        /// Units in each PE.
        pub count: u64 = 1, in positive, "the number of {} units";
    }
}

record! {
    /// The register file of one PE.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Registers = "a register file" {
        /// Where its numbers come from.
        pub cited("source"): String as text;
        /// Words in each PE.
        pub words: u64;
        /// Energy of reading one word.
        pub read_energy: Picojoules, in cost, "the energy of a register read";
        /// Energy of writing one word.
        pub write_energy: Picojoules, in cost, "the energy of a register write";
        /// Area of one PE's file.
        pub area: SquareMicrometres, in cost, "the area of the registers";
    }
}

fn actions() -> Form<Vec<(String, u64)>> {
    Form {
        value: || "map from components: a whole number".into(),
        read: |_, node| Ok(map(node, |_, n| Ok(n.u64()?))?.into_iter().collect()),
    }
}

fn coefficients() -> Form<Vec<f64>> {
    Form {
        value: || "list of numbers".into(),
        read: |_, node| {
            let help =
                |p: Problem| p.help("coefficients, of the power 0 first, such as [1, 1, 0.5]");
            node.list().map_err(help)?;
            list(node, |n| Ok(Node::f64(n)?))
        },
    }
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
