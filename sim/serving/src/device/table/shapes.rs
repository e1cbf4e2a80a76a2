//! What a row of shapes asks: the law and the kernel, with the family that the row belongs to.

use einflow_arch::device::{
    Attention, Kernel, Operands,
    law::ragged::{FLASH, LIBRARIES, Library},
};
use einflow_spec::{Problem, Stored};

use super::super::cells::{CellRow, Cells};

/// The law of products of two-byte words in tables that tell kinds of products apart.
pub(super) const DENSE: &str = "product:bf16";

/// Pieces of work that one row may be made of: each is placed on a unit by itself.
const MOST: u64 = 1 << 18;

/// Side of a block of queries and keys that a mask keeps or leaves out.
const BLOCK: u64 = 128;

/// A family, a law and a kernel.
type Asked = (String, String, Kernel);

/// `[m, k] x [k, n]`; of 8-bit words where the row's `kind` says how they are scaled.
pub(super) fn product(cells: &Cells, row: &CellRow) -> Result<(String, Kernel), Problem> {
    let (batch, m, k, n) = (
        1,
        cells.size(row, "m")?,
        cells.size(row, "k")?,
        cells.size(row, "n")?,
    );
    let (law, operands) = match cells.has("kind") {
        false => ("product".into(), Operands::WORDS),
        true => match cells.choice(row, "kind", &["bf16", "tensor", "row"])? {
            "bf16" => (DENSE.into(), Operands::WORDS),
            "row" => ("product:fp8-row".into(), Operands::SCALED_ROWS),
            _ => ("product:fp8-tensor".into(), Operands::BYTES),
        },
    };
    let kernel = Kernel::Product {
        batch,
        m,
        k,
        n,
        operands,
    };
    Ok((law, kernel))
}

/// Products of a mixture's experts, and the same rows with one weight.
pub(super) fn grouped(cells: &Cells, row: &CellRow) -> Result<(String, Kernel, Kernel), Problem> {
    let size = |column| cells.size(row, column);
    let (experts, active, tokens) = (size("experts")?, size("active")?, size("tokens")?);
    let (k, n) = (size("k")?, size("n")?);
    if active > experts.min(tokens).min(MOST) {
        let text = active.to_string();
        let want = format!("`experts`, `tokens` and {MOST} at the most");
        return Err(cells.wrong(row, "active", &text, &want));
    }
    let balance = cells.choice(row, "balance", &["even", "zipf", "one"])?;
    let rows: Vec<u64> = match balance {
        "one" => vec![tokens],
        "even" => (0..active).map(|e| (tokens + e) / active).collect(),
        // Drawn; a table says how many experts were, not how often each: what is expected of so many, the first twice
        // as often as the second.
        _ => {
            let all: f64 = (1..=active).map(|rank| 1.0 / rank as f64).sum();
            let share = |rank: u64| (tokens as f64 / rank as f64 / all).round().max(1.0) as u64;
            (1..=active).map(share).collect()
        }
    };
    let kernel = Kernel::Grouped {
        experts,
        rows: rows.into(),
        k,
        n,
        operands: Operands::WORDS,
    };
    let group = format!("experts={experts} {balance}");
    Ok((group, kernel, Kernel::product(tokens, k, n)))
}

/// Attention over caches of unequal lengths.
pub(super) fn ragged(cells: &Cells, row: &CellRow) -> Result<Asked, Problem> {
    let names = LIBRARIES.map(|library| library.name);
    let backend = cells.choice(row, "backend", &names)?;
    let library = Library::named(backend).unwrap_or(FLASH);
    let text = cells.text(row, "lengths");
    let wrong = || {
        cells.wrong(
            row,
            "lengths",
            text,
            "whole numbers, 1 or more, `;` between",
        )
    };
    let read = |l: &str| match l.trim().parse::<u64>() {
        Ok(length @ 1..=0x1000_0000) => Ok(length),
        _ => Err(wrong()),
    };
    let lengths: Vec<u64> = text.split(';').map(read).collect::<Result<_, _>>()?;
    let batch = cells.size(row, "b")?;
    if lengths.len() as u64 != batch {
        let want = format!("{batch} lengths, as `b` says");
        return Err(cells.wrong(row, "lengths", text, &want));
    }
    let longest = lengths.iter().copied().max().unwrap_or(1);
    let shape = grouped_heads(cells, row, batch, longest)?;
    if batch.saturating_mul(shape.key_heads) > MOST {
        let text = shape.key_heads.to_string();
        let want = format!("{MOST} key heads of all sequences at the most");
        return Err(cells.wrong(row, "hkv", &text, &want));
    }
    let group = format!("{backend} h={} hkv={}", shape.heads, shape.key_heads);
    let kernel = Kernel::Ragged {
        shape,
        lengths: lengths.into(),
        plan: library.plan,
    };
    Ok((group, library.law.to_string(), kernel))
}

/// Attention of prompts whose values are of another width than queries and keys.
pub(super) fn widths(cells: &Cells, row: &CellRow) -> Result<Asked, Problem> {
    let kind = cells.choice(row, "kind", &["cudnn-prefill", "flash-prefill"])?;
    let causal = cells.flag(row, "causal")?;
    let a = Attention {
        causal,
        ..prompt(cells, row, ["dqk", "dv"])?
    };
    let library = kind.split('-').next().unwrap_or(kind);
    Ok((
        format!("{library} d={}/{}", a.width, a.value_width),
        format!("prefill:{library}"),
        Kernel::Prefill(a),
    ))
}

/// A mechanism in place of attention, or beside it.
pub(super) fn mechanism(cells: &Cells, row: &CellRow) -> Result<Asked, Problem> {
    let name = cells.text(row, "mechanism");
    let a = prompt(cells, row, ["dk", "dv"])?;
    let blocks = a.length.div_ceil(BLOCK);
    let masked = |law: &str, kept, edges| (format!("masked:{law}"), under(a, kept, edges));
    let (law, kernel) = match name.split_once('-') {
        Some(("softmax", rest)) => {
            let causal = rest.ends_with("causal");
            let library = match rest.starts_with("cudnn") {
                true => "cudnn",
                false => "flash",
            };
            let kernel = Kernel::Prefill(Attention { causal, ..a });
            (format!("prefill:{library}"), kernel)
        }
        // Scores of all pairs that a query sees.
        None if name == "based" => masked(name, triangle(blocks), 1),
        _ => match name.rsplit_once("-window-") {
            Some((law, window)) => {
                let wrong = || cells.wrong(row, "mechanism", name, "a window of whole tokens");
                let window: u64 = window.parse().map_err(|_| wrong())?;
                let seen = (window / BLOCK).saturating_add(1).min(blocks);
                // Rows of blocks from one at the start to the whole window.
                let kept = triangle(seen).saturating_add((blocks - seen).saturating_mul(seen));
                masked(law, kept, 2)
            }
            None if name.is_empty() => {
                return Err(cells.wrong(row, "mechanism", name, "the name of a mechanism"));
            }
            None => (format!("chunked:{name}"), Kernel::Chunked(a)),
        },
    };
    Ok((name.to_string(), law, kernel))
}

/// Attention under a mask.
pub(super) fn pattern(cells: &Cells, row: &CellRow) -> Result<Asked, Problem> {
    let text = cells.text(row, "kept_blocks");
    // Of masks that are made for each head, the mean over the heads.
    let blocks = match text.parse::<f64>() {
        Ok(blocks) if (1.0..1e12).contains(&blocks) => blocks.round() as u64,
        _ => return Err(cells.wrong(row, "kept_blocks", text, "a number of blocks")),
    };
    let shape = prompt(cells, row, ["d", "d"])?;
    let name = cells.text(row, "pattern").split('-').next().unwrap_or("");
    let edges = match name {
        "full" => 0,
        "causal" => 1,
        // Every block leaves pairs out.
        "dilated" | "neighborhood" => u64::MAX,
        // At the diagonal, and where the window or the document ends.
        _ => 2,
    };
    let kernel = under(shape, blocks, edges);
    Ok((name.to_string(), "masked:flex".into(), kernel))
}

/// Blocks of so many rows of which each has one more than the one before.
fn triangle(rows: u64) -> u64 {
    rows.saturating_mul(rows.saturating_add(1)) / 2
}

/// Under a mask that keeps so many blocks, up to `edges` of them only in part for each block of queries.
fn under(shape: Attention, blocks: u64, edges: u64) -> Kernel {
    let rows = shape.length.div_ceil(BLOCK);
    Kernel::Masked {
        shape,
        blocks,
        partial: blocks.min(rows.saturating_mul(edges)),
    }
}

/// Attention that is divided over devices, as one would do it: the cache's or the prompt's length.
pub(super) fn divided(cells: &Cells, row: &CellRow) -> Result<Attention, Problem> {
    let a = grouped_heads(cells, row, cells.size(row, "b")?, cells.size(row, "s")?)?;
    // Halves of halves, in `ring-zigzag`.
    if !a.length.is_multiple_of(4) || !a.heads.is_multiple_of(2) {
        let text = a.length.to_string();
        return Err(cells.wrong(
            row,
            "s",
            &text,
            "a multiple of 4, for an even number of heads",
        ));
    }
    Ok(a)
}

/// A prompt of heads that share nothing.
fn prompt(cells: &Cells, row: &CellRow, widths: [&str; 2]) -> Result<Attention, Problem> {
    let heads = cells.size(row, "h")?;
    Ok(Attention {
        batch: cells.size(row, "b")?,
        heads,
        key_heads: heads,
        width: cells.size(row, widths[0])?,
        value_width: cells.size(row, widths[1])?,
        length: cells.size(row, "s")?,
        causal: false,
        cached: Stored::BF16,
    })
}

fn grouped_heads(
    cells: &Cells,
    row: &CellRow,
    batch: u64,
    length: u64,
) -> Result<Attention, Problem> {
    let size = |column| cells.size(row, column).map(Some);
    let shape = (
        Some(batch),
        size("h")?,
        size("hkv")?,
        size("d")?,
        Some(length),
    );
    super::attention(cells, row, shape, false)
}
