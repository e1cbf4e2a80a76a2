//! Why the sizes are what they are.

use einflow_mappings::{
    mapped::NamedLoop,
    spec::{Choice, SizeRule},
};

use super::{
    Page,
    words::{bytes, list},
};

impl Page<'_> {
    /// The sizes that the mapping chooses, each with its rule.
    pub(super) fn size_rules(&mut self) {
        let spec = &self.mapped.spec;
        let mut lines = Vec::new();
        for (name, rule) in &spec.sizes {
            let with: Vec<usize> = (0..self.mapped.blocks.len())
                .filter(|b| {
                    !spec.blocks[*b]
                        .sizes
                        .iter()
                        .any(|(n, _)| n.text == name.text)
                })
                .filter(|b| self.mapped.blocks[*b].parts.contains_key(&name.text))
                .collect();
            let size = self.mapped.sizes.get(&name.text);
            lines.extend(size.map(|size| self.size_rule(&name.text, *size, rule, &with)));
        }
        for (index, block) in spec.blocks.iter().enumerate() {
            for (name, rule) in &block.sizes {
                let size = self.mapped.blocks[index].parts.get(&name.text);
                let text = size.map(|size| self.size_rule(&name.text, *size, rule, &[index]));
                lines.extend(text.map(|text| format!("{text} (block {})", block.name)));
            }
        }
        for text in lines {
            self.line(2, &text);
        }
    }

    fn size_rule(
        &self,
        name: &str,
        size: u64,
        rule: &Choice<SizeRule>,
        blocks: &[usize],
    ) -> String {
        let rule = match rule {
            Choice::By { column, .. } => {
                return format!(
                    "{name} = {size}: by the column {} of the table",
                    column.text
                );
            }
            Choice::Fixed(rule) => rule,
        };
        let (what, room) = match rule {
            SizeRule::Expr(expr) => return format!("{name} = {size}: {expr}"),
            SizeRule::Searched => return format!("{name} = {size}: found by search"),
            SizeRule::LargestDivisorThatFits(room) => {
                ("the largest divisor with which the tiles fit", room)
            }
            SizeRule::LargestThatFits(room) => ("the largest with which the tiles fit", room),
        };
        let mut held = Vec::new();
        for (m, memory) in self.mapped.accelerator.memories.iter().enumerate() {
            let named = room.memory.as_ref().is_none_or(|n| n.text == memory.name);
            let worst = blocks
                .iter()
                .filter_map(|b| self.mapped.blocks[*b].occupancy.get(m))
                .max();
            if let (Some(capacity), Some(worst), true) = (memory.capacity, worst, named) {
                let (worst, all) = (bytes(*worst), bytes(capacity.0));
                held.push(format!("{worst} of the {all} of the {}", memory.name));
            }
        }
        let mut text = format!("{name} = {size}: {what}");
        if !held.is_empty() {
            text.push_str(&format!("; they take {}", list(&held)));
        }
        if let Some(within) = &room.within {
            text.push_str(&format!(", of which they may take {within} B"));
        }
        if blocks.iter().any(|b| self.is_whole(*b, name)) {
            text.push_str(" and there is no more of the rank to take");
        }
        text
    }

    /// Whether a part is all that there is: every loop of its rank outside runs once.
    fn is_whole(&self, block: usize, part: &str) -> bool {
        let block = &self.mapped.blocks[block];
        let name = part.to_lowercase();
        let in_loops = |loops: &[NamedLoop]| {
            let at = loops.iter().position(|l| l.name == name)?;
            let rank = loops[at].cut.rank;
            let mut outside = loops[..at].iter().filter(|l| l.cut.rank == rank);
            Some(outside.all(|l| l.count == 1))
        };
        let mut einsums = block.nests.iter().flat_map(|n| &n.einsums);
        einsums
            .find_map(|e| in_loops(&e.loops))
            .is_some_and(|whole| whole)
    }
}
