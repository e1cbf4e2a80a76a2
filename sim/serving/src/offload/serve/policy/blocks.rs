//! Blocks of a KV cache: who holds them, which are free, and whose tokens those still hold that nobody has taken.

use rustc_hash::FxHashMap;

/// The blocks of a store.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    all: u64,
    free: u64,
    /// With prefix caching, each block by itself.
    each: Option<Each>,
}

/// Blocks that a request holds, the first of its tokens first.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// How many.
    pub count: u64,
    /// Which, with prefix caching.
    ids: Vec<usize>,
}

/// Tokens of a block, with all those before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Content {
    /// None that anybody looks for.
    #[default]
    Unknown,
    /// Those of a request's block: which request, and which of its blocks.
    Own(usize, usize),
    /// Those of all requests whose traces say so.
    Shared(u32),
}

/// Blocks that were ever taken. Those that are free are a list: the longest free is taken first.
#[derive(Clone, Debug)]
struct Each {
    blocks: Vec<Block>,
    longest: usize,
    newest: usize,
    /// Blocks with the content that requests share.
    shared: FxHashMap<u32, Vec<usize>>,
}

/// Nowhere in the list.
const NONE: usize = usize::MAX;

#[derive(Clone, Debug)]
struct Block {
    /// Requests that hold it.
    holders: u64,
    /// In the list of free ones: the next that was freed before and after it.
    before: usize,
    after: usize,
    content: Content,
}

impl Blocks {
    /// All free; `reuse`: those that are given back keep what they hold until somebody takes them.
    pub fn new(count: u64, reuse: bool) -> Self {
        Self {
            all: count,
            free: count,
            each: reuse.then_some(Each {
                blocks: Vec::new(),
                longest: NONE,
                newest: NONE,
                shared: FxHashMap::default(),
            }),
        }
    }

    /// Blocks that somebody holds.
    pub fn used(&self) -> u64 {
        self.all - self.free
    }

    /// Of a request's blocks from the first on, those that still hold its tokens, `most` at most: by the content that it
    /// shares, else where it had them (`before`).
    pub fn found(
        &self,
        request: usize,
        shared: &[u32],
        before: Option<&Held>,
        most: u64,
    ) -> Vec<usize> {
        let Some(each) = &self.each else {
            return Vec::new();
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let before = before.map_or(&[][..], |held| &held.ids);
        let at = |at: usize| match shared.get(at) {
            Some(content) => each.shared.get(content)?.first().copied(),
            None => {
                let own = |id: &usize| each.blocks[*id].content == Content::Own(request, at);
                before.get(at).copied().filter(own)
            }
        };
        (0..most).map_while(at).collect()
    }

    /// Whether a request that has these finds room for `count` blocks in all.
    pub fn room(&self, count: u64, found: &[usize]) -> bool {
        let idle = match &self.each {
            Some(each) => found
                .iter()
                .filter(|id| each.blocks[**id].holders == 0)
                .count(),
            None => 0,
        };
        count.saturating_sub(found.len() as u64) + idle as u64 <= self.free
    }

    /// A request holds blocks that were found.
    pub fn hold(&mut self, found: Vec<usize>) -> Held {
        if let Some(each) = &mut self.each {
            for id in &found {
                if each.blocks[*id].holders == 0 {
                    each.unlist(*id);
                    self.free -= 1;
                }
                each.blocks[*id].holders += 1;
            }
        }
        Held {
            count: found.len() as u64,
            ids: found,
        }
    }

    /// A request takes more blocks, the longest free first: what they hold is lost. False, and nothing taken: there are
    /// too few.
    pub fn take(&mut self, held: &mut Held, count: u64) -> bool {
        if count > self.free {
            return false;
        }
        self.free -= count;
        held.count += count;
        if let Some(each) = &mut self.each {
            for _ in 0..count {
                let id = each.next(self.all);
                held.ids.push(id);
            }
        }
        true
    }

    /// Says what a block of a request holds.
    pub fn name(&mut self, held: &Held, at: usize, content: Content) {
        if let (Some(each), Some(id)) = (&mut self.each, held.ids.get(at)) {
            each.name(*id, content);
        }
    }

    /// A request gives its blocks back, the last first: the first ones are kept longest.
    pub fn give(&mut self, held: &Held) {
        let Some(each) = &mut self.each else {
            self.free += held.count;
            return;
        };
        for id in held.ids.iter().rev() {
            let block = &mut each.blocks[*id];
            block.holders -= 1;
            if block.holders == 0 {
                each.list(*id);
                self.free += 1;
            }
        }
    }
}

impl Each {
    /// One that was never taken, while there are any, else the longest free.
    fn next(&mut self, all: u64) -> usize {
        if (self.blocks.len() as u64) < all {
            self.blocks.push(Block {
                holders: 1,
                before: NONE,
                after: NONE,
                content: Content::Unknown,
            });
            return self.blocks.len() - 1;
        }
        let id = self.longest;
        self.unlist(id);
        self.blocks[id].holders = 1;
        self.name(id, Content::Unknown);
        id
    }

    fn name(&mut self, id: usize, content: Content) {
        let old = std::mem::replace(&mut self.blocks[id].content, content);
        if old == content {
            return;
        }
        if let Content::Shared(old) = old
            && let Some(ids) = self.shared.get_mut(&old)
        {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.shared.remove(&old);
            }
        }
        if let Content::Shared(new) = content {
            self.shared.entry(new).or_default().push(id);
        }
    }

    /// Takes a block out of the list.
    fn unlist(&mut self, id: usize) {
        let Block { before, after, .. } = self.blocks[id];
        match self.blocks.get_mut(before) {
            Some(block) => block.after = after,
            None => self.longest = after,
        }
        match self.blocks.get_mut(after) {
            Some(block) => block.before = before,
            None => self.newest = before,
        }
    }

    /// Puts a block at the end of the list.
    fn list(&mut self, id: usize) {
        let last = std::mem::replace(&mut self.newest, id);
        (self.blocks[id].before, self.blocks[id].after) = (last, NONE);
        match self.blocks.get_mut(last) {
            Some(block) => block.after = id,
            None => self.longest = id,
        }
    }
}
