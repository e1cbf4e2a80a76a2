//! Pieces of text: amounts, lists, paragraphs.

use einflow_mappings::count::Count;

use crate::render::WIDTH;

/// Bytes with a binary unit, two decimals where it is no whole number of them.
pub fn bytes(value: u128) -> String {
    const UNITS: [(&str, u32); 6] = [
        ("EiB", 60),
        ("PiB", 50),
        ("TiB", 40),
        ("GiB", 30),
        ("MiB", 20),
        ("KiB", 10),
    ];
    for (unit, shift) in UNITS {
        if value >> shift > 0 {
            return if value.is_multiple_of(1 << shift) {
                format!("{} {unit}", value >> shift)
            } else {
                format!("{:.2} {unit}", value as f64 / (1u128 << shift) as f64)
            };
        }
    }
    format!("{value} B")
}

/// A whole number as it is, any other with up to two decimals.
pub fn number(value: Count) -> String {
    if Count::whole(value.rounded()) == value {
        return value.rounded().to_string();
    }
    let text = format!("{:.2}", value.as_f64());
    match text.trim_end_matches('0').trim_end_matches('.') {
        "0" => "under 0.01".into(),
        short => short.to_string(),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub fn list<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_string(),
        [most @ .., last] => {
            let most: Vec<&str> = most.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", most.join(", "), last.as_ref())
        }
    }
}

/// A paragraph that fits the terminal, its further lines indented by `hang` more.
pub fn filled(text: &str, indent: usize, hang: usize) -> String {
    let mut out = String::new();
    let mut line = " ".repeat(indent);
    let mut empty = true;
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        let needed = line.chars().count() + word.chars().count() + usize::from(!empty);
        if !empty && needed > usize::from(WIDTH) {
            out.push_str(&line);
            out.push('\n');
            line = " ".repeat(indent + hang);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(&line);
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_lists() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(16 << 20), "16 MiB");
        assert_eq!(bytes((16 << 20) - (1 << 14)), "15.98 MiB");
        assert_eq!(number(Count::ratio(1, 4).unwrap()), "0.25");
        assert_eq!(number(Count::ratio(1, 1000).unwrap()), "under 0.01");
        assert_eq!(number(Count::whole(3)), "3");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        let text = filled(&"word ".repeat(40), 4, 2);
        assert!(text.lines().all(|l| l.chars().count() <= 80));
        assert!(text.starts_with("    word") && text.contains("\n      word"));
    }
}
