//! What a run looks like: tables ([`render`]), reasons ([`explain`](mod@explain)), [`trace`]s for Perfetto and
//! [`plot`]s. All of it reads reports and programs; nothing here computes a result.

pub mod explain;
pub mod plot;
pub mod render;
pub mod trace;
