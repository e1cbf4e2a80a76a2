//! Proof: golden references written without the Einsum machinery, against which the cascades of
//! the library, the interpreter and the engines are checked.

pub mod golden;
