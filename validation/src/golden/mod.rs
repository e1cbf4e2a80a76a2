//! Textbook definitions of what the cascades of the library compute, in `f64`.
//!
//! Everything here is nalgebra matrices and plain loops; nothing calls the code that it judges.
//! A matrix has one column for each token: `Q` is E x P, `K` is E x M, `V` is F x M and an output
//! is F x P (E embedding of queries and keys, F of values, P queries, M keys). There is no batch:
//! each function is one head of one sequence, except where heads share something.

pub mod agent;
pub mod decode;
pub mod ffn;
pub mod grouped;
pub mod linear;
pub mod masks;
pub mod parts;
pub mod pedagogical;
pub mod projections;
pub mod sigmoid;
pub mod softmax;
pub mod topk;
