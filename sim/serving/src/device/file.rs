//! A fitted device as a file.

use std::fmt::Write;

use einflow_arch::device::{Chip, law::TRANSFER, law_parameters};

use super::fit::FittedLaw;

/// What a new file says besides its laws.
pub struct Heading {
    /// The device's name.
    pub name: String,
    /// Its chip.
    pub chip: Chip,
    /// Where the chip's numbers come from, or that they are assumed.
    pub chip_source: String,
}

/// A number with four digits.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

/// The laws as a field of a device file (`laws`) or a link file (`operations`), with the uncertainty of each parameter as a comment.
pub fn laws(field: &str, found: &[FittedLaw]) -> String {
    let mut out = format!("    {field}: {{\n");
    for law in found {
        let (mean, worst) = law.fit.error;
        let _ = writeln!(
            out,
            "        // mean error {:.1} %, worst {:.0} %, over {} times",
            100.0 * mean,
            100.0 * worst,
            law.samples
        );
        let _ = writeln!(out, "        \"{}\": (", law.name);
        let _ = writeln!(
            out,
            "            source: \"{} {}\",",
            match law.stood {
                true => "as before: too few times in",
                false => "fitted by `einflow fit` to",
            },
            law.tables.join(", ")
        );
        if let Some((shortest, longest)) = law.times {
            let (from, to) = (short(shortest), short(longest));
            let _ = writeln!(out, "            shortest: {from}, longest: {to}, // us");
        }
        let parameters = law_parameters(&law.name).unwrap_or(TRANSFER);
        let values = law.fit.values.iter().zip(&law.fit.uncertainty);
        for (parameter, (value, uncertainty)) in parameters.iter().zip(values) {
            let unit = match parameter.unit {
                "" => String::new(),
                unit => format!(" {unit},"),
            };
            let sure = match uncertainty {
                Some(u) if *u < 9.99 => format!(" +- {:.0} %", 100.0 * u),
                Some(_) => " not told apart from others".to_string(),
                None => " not from these times".to_string(),
            };
            let _ = writeln!(
                out,
                "            {}: {}, //{unit}{sure}",
                parameter.name,
                short(*value)
            );
        }
        out.push_str("        ),\n");
    }
    out.push_str("    },\n");
    out
}

/// A whole file.
pub fn device(heading: &Heading, found: &[FittedLaw]) -> String {
    let chip = &heading.chip;
    let mut tables: Vec<&str> = found
        .iter()
        .flat_map(|l| l.tables.iter().map(String::as_str))
        .collect();
    tables.sort_unstable();
    tables.dedup();
    format!(
        "(\n    name: \"{}\",\n    description: \"Fitted to {} measured times.\",\n    source: \"{}\",\n    chip: (\n        source: \"{}\",\n        units: {},\n        matrix: {:?}, // op/s\n{}        memory: {},\n        bandwidth: {:?}, // B/s\n        cache: {},\n    ),\n{})\n",
        heading.name,
        found.iter().map(|l| l.samples).sum::<usize>(),
        tables.join(", "),
        heading.chip_source,
        chip.units,
        chip.matrix.0,
        chip.matrix_8bit
            .map(|m| format!("        matrix_8bit: {:?}, // op/s\n", m.0))
            .unwrap_or_default(),
        chip.memory.0,
        chip.bandwidth.0,
        chip.cache.0,
        laws("laws", found)
    )
}
