//! Why an engine could not evaluate a mapped cascade.

use crate::{analytic::AnalyticError, array::ArrayError, events::EventError, report::NoValues};

/// Why an engine could not evaluate a mapped cascade.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// What cannot be counted.
    #[error(transparent)]
    Analytic(#[from] AnalyticError),
    /// A program that cannot be run; [`EventError::Deadlock`]: a mapping that waits for itself, which is illegal.
    #[error(transparent)]
    Events(#[from] EventError),
    /// Words that are not where they are read, or that the arrays have no hardware for.
    #[error(transparent)]
    Array(ArrayError),
    /// Inputs for which there are no values to try.
    #[error(transparent)]
    Inputs(#[from] NoValues),
}

impl From<ArrayError> for EngineError {
    fn from(error: ArrayError) -> Self {
        match error {
            ArrayError::Events(error) => Self::Events(error),
            error => Self::Array(error),
        }
    }
}
