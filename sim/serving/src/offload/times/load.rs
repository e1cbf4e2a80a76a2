//! What a batch brings to an iteration.

/// The caches that decoding requests read, each with its own length, in the order of the batch.
///
/// Neighbours of one length are kept as one run: as many of one length as there are take no room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caches {
    /// A length in tokens, the newest with them, and how many follow one another with it.
    runs: Vec<(u64, u64)>,
    requests: u64,
    tokens: u64,
}

impl Caches {
    /// So many of one length.
    pub fn equal(requests: u64, length: u64) -> Self {
        let mut out = Self::default();
        out.push(requests, length);
        out
    }

    /// Room for so many of different lengths.
    pub fn with_capacity(requests: usize) -> Self {
        Self {
            runs: Vec::with_capacity(requests),
            ..Self::default()
        }
    }

    /// So many more of one length, after the others.
    pub fn push(&mut self, requests: u64, length: u64) {
        if requests == 0 {
            return;
        }
        self.requests += requests;
        self.tokens = self.tokens.saturating_add(requests.saturating_mul(length));
        match self.runs.last_mut() {
            Some((last, count)) if *last == length => *count += requests,
            _ => self.runs.push((length, requests)),
        }
    }

    /// How many.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Tokens in all of them.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Tokens in one of them, in the mean; 0 without any.
    pub fn mean(&self) -> f64 {
        self.tokens as f64 / self.requests.max(1) as f64
    }

    /// Tokens in the longest.
    pub fn longest(&self) -> u64 {
        self.runs
            .iter()
            .map(|(length, _)| *length)
            .max()
            .unwrap_or(0)
    }

    /// The same with no more than so many tokens of each.
    pub fn within(&self, window: u64) -> Self {
        let mut out = Self::with_capacity(self.runs.len());
        for (length, count) in &self.runs {
            out.push(*count, (*length).min(window));
        }
        out
    }

    /// Whether all have one length.
    pub fn alike(&self) -> bool {
        self.runs.len() <= 1
    }

    /// Whether the longest has more than twice the tokens of the mean.
    pub fn spread(&self) -> bool {
        !self.alike() && self.longest() as f64 > 2.0 * self.mean()
    }

    /// Each of them.
    pub fn lengths(&self) -> impl Iterator<Item = u64> {
        let runs = self.runs.iter();
        runs.flat_map(|(length, count)| std::iter::repeat_n(*length, *count as usize))
    }

    /// Lengths, and how many follow one another with each.
    pub fn runs(&self) -> &[(u64, u64)] {
        &self.runs
    }
}

/// What a batch brings to an iteration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Of the requests that decode.
    pub caches: Caches,
    /// The same by store, where requests are whole on one device.
    pub by_store: Vec<Caches>,
    /// Parts of prompts: tokens, and those before them.
    pub chunks: Vec<(u64, u64)>,
    /// Tokens that come out.
    pub sampled: u64,
}

impl Load {
    /// Requests that decode.
    pub fn requests(&self) -> u64 {
        self.caches.requests()
    }

    /// Tokens in their caches, the newest with them.
    pub fn tokens(&self) -> u64 {
        self.caches.tokens()
    }

    /// Tokens that products run over.
    pub fn width(&self) -> u64 {
        self.requests() + self.chunks.iter().map(|(tokens, _)| tokens).sum::<u64>()
    }
}
