use einflow_spec::quantity::Picojoules;

/// A family of equal, statically scheduled links of an array, one for each PE or each PE of an edge.
///
/// Without `from` and `to` it joins every PE to its neighbour in `direction`. With `from`, a memory or an array
/// feeds the PEs of the edge at which that direction enters (`down` enters at the top row). With `to`, the PEs of the edge
/// at which it leaves (`down` leaves at the bottom row) feed a memory, or the PE in the same column or row of another array.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The name, unique in its array.
    pub name: String,
    /// The memory or array that feeds the entered edge.
    pub from: Option<String>,
    /// The memory or array that the left edge feeds.
    pub to: Option<String>,
    /// Which way words move.
    pub direction: Direction,
    /// Words that one link takes each cycle.
    pub words_per_cycle: u64,
    /// Cycles from one end to the other.
    pub latency: u64,
    /// True where every PE that a word passes may use it, so that the word is read from memory once.
    pub multicast: bool,
    /// True where a PE may combine the word that passes with its own, so that sums form along the way.
    pub reduce: bool,
    /// Energy of moving one word over one link.
    pub energy: Picojoules,
}

/// Which way words move over a link; row 0 is the top, column 0 the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the next column.
    Right,
    /// To the previous column.
    Left,
    /// To the next row.
    Down,
    /// To the previous row.
    Up,
}

impl Direction {
    /// Every direction.
    pub const ALL: [Direction; 4] = [
        Direction::Right,
        Direction::Left,
        Direction::Down,
        Direction::Up,
    ];

    /// The name in files: `right`, `left`, `down` or `up`.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Right => "right",
            Direction::Left => "left",
            Direction::Down => "down",
            Direction::Up => "up",
        }
    }

    /// The direction of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|direction| direction.name() == name)
    }
}
