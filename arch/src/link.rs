use einflow_spec::{Key, named, quantity::Picojoules, record, text};

use crate::check::{cost, positive};

record! {
    /// A family of equal, statically scheduled links of an array, one for each PE or each PE of an edge.
    ///
    /// Without `from` and `to` it joins every PE to its neighbour in `direction`. With `from`, a memory or an array
    /// feeds the PEs of the edge at which that direction enters (`down` enters at the top row). With `to`, the PEs of the edge
    /// at which it leaves (`down` leaves at the bottom row) feed a memory, or the PE in the same column or row of another array.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Link = "a link" {
        unread source: Option<String> as text => "the array's";
        /// The name, unique in its array.
        pub name: String where Key;
        /// The memory or array that feeds the entered edge.
        pub from: Option<String> as text => "a PE of this array";
        /// The memory or array that the left edge feeds.
        pub to: Option<String> as text => "a PE of this array";
        /// Which way words move.
        pub direction: Direction;
        /// Words that one link takes each cycle.
        pub words_per_cycle: u64 = 1, in positive, "the words a cycle";
        /// Cycles from one end to the other.
        pub latency: u64 = 1;
        /// Whether every PE that a word passes may use it, so that the word is read from memory once.
        pub multicast: bool = false;
        /// Whether a PE may combine the word that passes with its own, so that sums form along the way.
        pub reduce: bool = false;
        /// Energy of moving one word over one link.
        pub energy: Picojoules = Picojoules(0.0) => "0, and reported as not charged", in cost, "the energy of a word";
    }
}

named! {
    /// Which way words move over a link; row 0 is the top, column 0 the left.
    pub enum Direction {
        /// To the next column.
        Right = "right",
        /// To the previous column.
        Left = "left",
        /// To the next row.
        Down = "down",
        /// To the previous row.
        Up = "up",
    }
}
