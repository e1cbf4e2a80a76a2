//! One colour for each name, everywhere, told apart by the colour-blind.

use plotters::style::RGBColor;

/// Okabe and Ito's palette (Color Universal Design, 2008) without black, then three of Paul Tol's muted scheme (2021).
const PALETTE: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(204, 121, 167),
    RGBColor(240, 228, 66),
    RGBColor(136, 34, 85),
    RGBColor(51, 34, 136),
    RGBColor(153, 153, 51),
];

/// Neutral, for what others are compared with.
const GREY: RGBColor = RGBColor(150, 150, 150);

/// Names whose colour is fixed; what stands together has different ones.
const KNOWN: [(&str, usize); 37] = [
    ("flat", 1),
    ("+cascade", 4),
    ("+architecture", 2),
    ("+binding", 0),
    // Einsums that share an array.
    ("QK", 0),
    ("BQK", 0),
    ("SN", 1),
    ("SLN", 1),
    ("GM", 2),
    ("LM", 2),
    ("SD", 4),
    ("SLD", 4),
    ("A", 8),
    ("AV", 5),
    ("SLNV", 3),
    ("RM", 6),
    ("PRM", 9),
    ("SPD", 7),
    ("RD", 2),
    ("SPNV", 1),
    ("RNV", 0),
    // Components.
    ("dram", 8),
    ("buffer", 0),
    ("array2d.mac", 3),
    ("array2d.add", 6),
    ("array2d.max", 9),
    ("array2d.registers", 1),
    ("array1d.mac", 5),
    ("array1d.add", 7),
    ("array1d.max", 9),
    ("array1d.divide", 2),
    ("array1d.registers", 4),
    // Models.
    ("bert", 0),
    ("trxl", 1),
    ("t5", 2),
    ("xlm", 3),
    ("front", 3),
];

/// The colour of a name: fixed for known ones, else the same from run to run.
pub fn of(name: &str) -> RGBColor {
    if name == "unfused" {
        return GREY;
    }
    let known = KNOWN.iter().find(|(known, _)| *known == name);
    let index = known.map(|(_, index)| *index).unwrap_or_else(|| {
        let sum = name.bytes().fold(0usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        sum % PALETTE.len()
    });
    PALETTE[index]
}

/// The colours of names that stand together: those of [`of`], but a name without a fixed colour gives way.
pub fn together(names: &[String]) -> Vec<RGBColor> {
    let fixed = |name: &str| name == "unfused" || KNOWN.iter().any(|(known, _)| *known == name);
    let mut taken: Vec<RGBColor> = names.iter().filter(|n| fixed(n)).map(|n| of(n)).collect();
    names
        .iter()
        .map(|name| {
            if fixed(name) {
                return of(name);
            }
            let first = PALETTE.iter().position(|c| *c == of(name)).unwrap_or(0);
            let free = (0..PALETTE.len())
                .map(|i| PALETTE[(first + i) % PALETTE.len()])
                .find(|c| !taken.contains(c));
            let colour = free.unwrap_or_else(|| of(name));
            taken.push(colour);
            colour
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_stand_together_differ() {
        for names in [
            &["unfused", "flat", "+cascade", "+architecture", "+binding"][..],
            &["QK", "SLN", "SLD", "SLNV", "LM"],
            &["QK", "GM", "SN", "SD", "A", "AV"],
            &["RM", "PRM", "SPD", "RD", "SPNV", "RNV", "AV"],
            &["bert", "trxl", "t5", "xlm", "mine"],
            &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"],
        ] {
            let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
            let colours = together(&names);
            for (i, colour) in colours.iter().enumerate() {
                assert!(!colours[..i].contains(colour), "{}", names[i]);
            }
        }
    }
}
