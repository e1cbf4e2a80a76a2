//! DRAM channels and buffer ports: the one component that the event engines share.

mod channel;
mod ports;

pub use channel::{Channel, Moved, cycles_per_byte};
pub use ports::PortTable;
