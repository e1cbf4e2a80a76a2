//! Tiles that stay somewhere, and the words that move into them and out of them.

use einflow_mappings::{
    count::Count,
    mapped::{Keep, Place, TransferKind},
};
use einflow_workloads::cascade::TensorKind;

use super::{
    Page,
    nest::{KeepId, Scope},
    words::{list, number},
};
use einflow_engine::{analytic::AnalyticError, units::percent};

impl<'a> Page<'a> {
    /// A tile that stays, and its movements.
    pub(super) fn keep(
        &mut self,
        scope: &Scope<'a>,
        id: KeepId,
        indent: usize,
    ) -> Result<(), AnalyticError> {
        let keep = match id.0 {
            None => &scope.block.keeps[id.1],
            Some(n) => &scope.block.nests[n].keeps[id.1],
        };
        let own: Vec<usize> = (0..self.moves.len())
            .filter(|i| self.keep_of(scope, *i) == Some(id))
            .collect();
        let word = self.mapped.word_bytes();
        let name = self.tensor(keep.tensor);
        let size = super::words::bytes(keep.words.saturating_mul(word));
        let words = if keep.words == 1 { "word" } else { "words" };
        let what = match keep.depth {
            0 => format!("all of it, {} {words}", keep.words),
            _ => format!("a tile of {} {words}", keep.words),
        };
        let place = self.place(keep.place);
        let mut text = format!("{name} stays in {place}: {what} ({size})");
        let loaded = own.iter().any(|i| {
            let kind = self.moves[*i].transfer.kind;
            matches!(kind, TransferKind::Fill | TransferKind::Operand)
        });
        let in_turn = loaded && keep.depth > 0 && matches!(keep.place, Place::Memory(_));
        text.push_str(&match (keep.generations, in_turn) {
            (1, true) => ", single-buffered".into(),
            (1, false) => String::new(),
            (2, true) => ", double-buffered".to_string(),
            (n, _) => format!(", room for {n}"),
        });
        if keep.freed_by_row {
            text.push_str(", freed row by row");
        }
        if let Some(other) = keep.in_place_of {
            text.push_str(&format!(", in the room of {}", self.tensor(other)));
        }
        if keep.share != (1, 1) {
            let share = percent(keep.share.0 as f64 / keep.share.1 as f64);
            let rest = if keep.spills_through {
                "the rest is spilled and passes through"
            } else {
                "the rest is spilled and goes past it"
            };
            text.push_str(&format!("; {share} of it is kept there, {rest}"));
        }
        self.line(indent, &text);
        for at in own {
            let text = self.keep_move(at)?;
            self.line(indent + 2, &text);
            self.tell(at)?;
        }
        Ok(())
    }

    /// The keep that a movement fills or empties.
    pub(super) fn keep_of(&self, scope: &Scope<'a>, at: usize) -> Option<KeepId> {
        let transfer = self.moves[at].transfer;
        let (n, e) = transfer.einsum;
        let place = match transfer.kind {
            TransferKind::Fill | TransferKind::Drain => transfer.inner,
            TransferKind::Operand | TransferKind::Update => {
                Place::Registers(scope.block.nests[n].einsums[e].unit)
            }
        };
        let fits = |k: &Keep| k.tensor == transfer.tensor && k.place == place;
        let nest = scope.block.nests[n].keeps.iter().position(fits);
        let own = || scope.block.keeps.iter().position(fits).map(|i| (None, i));
        nest.map(|i| (Some(n), i)).or_else(own)
    }

    /// A movement into or out of a tile that stays.
    pub(super) fn keep_move(&self, at: usize) -> Result<String, AnalyticError> {
        let m = &self.moves[at];
        let each = match m.words.checked_div(m.changes) {
            Some(words) if m.words == words * m.changes && m.transfer.share == (1, 1) => {
                let amount = self.bytes(Count::whole(words))?;
                match m.changes {
                    1 => "once, ".into(),
                    times => format!("{amount} each time, {times} times: "),
                }
            }
            _ if m.changes > 1 => format!("{} times, ", m.changes),
            _ => String::new(),
        };
        let (reads, writes) = self.sides(at)?;
        let often = self.often(at);
        Ok(match m.transfer.kind {
            TransferKind::Fill => {
                let outer = m.transfer.outer.map(|p| self.place(p)).unwrap_or_default();
                let read = self.accessed(at, m.transfer.outer, true)?;
                let written = self.accessed(at, Some(m.transfer.inner), false)?;
                let through = match read == written {
                    true => String::new(),
                    false => format!(" (written there: {written})"),
                };
                format!("loaded from {outer}: {each}{read} in all{often}{through}")
            }
            TransferKind::Operand => format!("loaded: {each}{} in all{often}", list(&reads)),
            TransferKind::Update => {
                let back = match reads.is_empty() {
                    true => String::new(),
                    false => format!("; partial results come back, {}", list(&reads)),
                };
                format!("goes out: {each}{} in all{often}{back}", list(&writes))
            }
            TransferKind::Drain => {
                let outer = m.transfer.outer.map(|p| self.place(p)).unwrap_or_default();
                let written = self.accessed(at, m.transfer.outer, false)?;
                let mut text = format!("goes out to {outer}: {each}{written} in all{often}");
                let back = self.accessed(at, m.transfer.outer, true)?;
                if back != "0 B" {
                    text.push_str(&format!("; partial results come back: {back}"));
                }
                text
            }
        })
    }

    /// Bytes that a movement reads or writes in a place.
    fn accessed(
        &self,
        at: usize,
        place: Option<Place>,
        read: bool,
    ) -> Result<String, AnalyticError> {
        let Some(Place::Memory(memory)) = place else {
            return self.bytes(Count::default());
        };
        let access = self.moves[at].at(memory);
        self.bytes(if read { access.reads } else { access.writes })
    }

    /// What a movement reads from each memory, and what it writes to each.
    pub(super) fn sides(&self, at: usize) -> Result<(Vec<String>, Vec<String>), AnalyticError> {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for memory in (0..self.mapped.accelerator.memories.len()).rev() {
            let access = self.moves[at].at(memory);
            let name = self.memory(memory);
            if !access.reads.is_zero() {
                reads.push(format!("{} from {name}", self.bytes(access.reads)?));
            }
            if !access.writes.is_zero() {
                writes.push(format!("{} to {name}", self.bytes(access.writes)?));
            }
        }
        Ok((reads, writes))
    }

    /// How often a word of an input or output passes the edge of the outermost memory.
    pub(super) fn often(&self, at: usize) -> String {
        let m = &self.moves[at];
        let tensor = m.transfer.tensor;
        let kind = self.mapped.cascade.tensor(tensor).kind;
        let access = m.at(0);
        let moved = match m.transfer.kind {
            TransferKind::Fill | TransferKind::Operand => access.reads,
            TransferKind::Update | TransferKind::Drain => access.writes,
        };
        // How many of the words that are chosen at run time are different ones is not known before.
        let chosen = m.transfer.projection.all_dims().any(|d| d.chosen.is_some());
        let outside = matches!(kind, TensorKind::Input | TensorKind::Output);
        if chosen || !outside || moved.is_zero() {
            return String::new();
        }
        match moved.over(self.mapped.needed(tensor)) {
            Some(times) if times == Count::whole(1) => ", each word once".into(),
            Some(times)
                if times.ceiling() == times.rounded() && Count::whole(times.rounded()) == times =>
            {
                format!(", each word {} times", number(times))
            }
            Some(times) => format!(", a word {} times on average", number(times)),
            None => String::new(),
        }
    }
}
