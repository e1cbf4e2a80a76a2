//! What a run found: data only.

mod account;
mod checked;
mod combine;
mod data;
mod json;
mod metrics;

pub use account::{Account, Activity, Item};
pub use checked::{
    Check, Errors, MaskedQuery, Miniature, MiniatureError, NoValues, NotFinite, RealLength,
    RealLengthError, Reference, Stagnation,
};
pub use combine::combine;
pub use data::{AreaItem, BlockReport, Charge, Inputs, LowerBound, Report, Unit};
pub use json::whole;
pub use metrics::Metric;
