//! Plots: figures as data, drawn as SVG and PNG.
//!
//! [`compared`], [`one`], [`swept`] and [`waterfall`] say what to show of runs, sweeps and traces; [`save`] draws a [`Figure`]. A series has the
//! same colour in every figure (`colours.rs`), and the text is drawn with the font that travels in the binary, so that a
//! figure looks the same everywhere.

mod colours;
mod draw;
mod offload;
mod outline;
mod predicted;
mod runs;
mod sweep;
mod waterfall;

pub use draw::save;
pub use offload::{offload_compared, offloaded};
pub use predicted::predicted;
pub use runs::{compared, one};
pub use sweep::{Swept, swept};
pub use waterfall::{Lane, Span, waterfall};

/// A figure: panels under one title and one legend.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The file's name, without its extension.
    pub name: String,
    /// What it shows, readable without a caption.
    pub title: String,
    /// Panels, left to right, then down.
    pub panels: Vec<Panel>,
    /// What the title leaves open; empty for nothing.
    pub note: String,
}

/// One panel.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What tells it from the others; empty for the only one.
    pub title: String,
    /// What its vertical axis shows, with the unit.
    pub y: String,
    /// What its horizontal axis shows, with the unit; empty where its labels say it.
    pub x: String,
    /// What is drawn.
    pub content: Content,
}

/// What a panel shows.
#[derive(Clone, Debug)]
pub enum Content {
    /// Groups of bars, each bar a stack of named parts.
    Bars(Vec<Group>),
    /// Points and lines over two numbers.
    Points {
        /// Series by name.
        series: Vec<Series>,
        /// Whether the axes are logarithmic: horizontal, vertical.
        log: (bool, bool),
    },
    /// What goes on in each of several rows, over time.
    Lanes {
        /// The rows, from the top.
        lanes: Vec<Lane>,
        /// The time shown: from, to.
        shown: (u64, u64),
    },
}

/// Bars that stand together.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they have in common.
    pub label: String,
    /// The bars.
    pub bars: Vec<Bar>,
}

/// A bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it stands for, where its parts do not say it; shown above it.
    pub label: String,
    /// From the bottom: name, height.
    pub parts: Vec<(String, f64)>,
}

/// A series of points.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Where they are.
    pub points: Vec<(f64, f64)>,
    /// Whether a line joins them, in this order.
    pub joined: bool,
    /// Whether they are pale: the ground before which others stand.
    pub pale: bool,
}
