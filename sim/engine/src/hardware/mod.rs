//! DRAM channels, and ports and bandwidths of buffers: the one component that the event engines share.

mod bandwidth;
mod channel;
mod ports;

pub use bandwidth::{Bandwidth, Load};
pub use channel::{Channel, Moved, cycles_per_byte};
pub use ports::PortTable;
