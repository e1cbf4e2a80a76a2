//! Names of the element functions.

use crate::cascade::Function;

/// Every function that is written as a call.
pub(super) const CALLS: [(&str, Function); 15] = [
    ("exp", Function::Exp),
    ("exp2", Function::Exp2),
    ("log", Function::Log),
    ("sqrt", Function::Sqrt),
    ("rsqrt", Function::Rsqrt),
    ("sigmoid", Function::Sigmoid),
    ("tanh", Function::Tanh),
    ("relu", Function::Relu),
    ("silu", Function::Silu),
    ("gelu", Function::Gelu),
    ("abs", Function::Abs),
    ("max", Function::Max),
    ("min", Function::Min),
    ("pow", Function::Pow),
    ("neg", Function::Neg),
];

/// The function of this name.
pub(super) fn function(name: &str) -> Option<Function> {
    CALLS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, function)| *function)
}

/// How many operands a call of it takes: at least, at most.
pub(super) fn arity(function: Function) -> (usize, usize) {
    match function {
        Function::Max | Function::Min => (2, usize::MAX),
        Function::Pow => (2, 2),
        _ => (1, 1),
    }
}
