//! SPDX licence expressions against the allow list.

/// Licences that everything we link must offer; `deny.toml` has the same list for cargo-deny.
pub const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// Whether `expression` can be satisfied with allowed licences only. `/` is the old spelling of OR.
pub fn acceptable(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let good = any_of(&mut rest);
    good && rest.is_empty()
}

fn any_of(rest: &mut &[&str]) -> bool {
    let mut good = all_of(rest);
    while rest.first() == Some(&"OR") {
        *rest = &rest[1..];
        let alternative = all_of(rest);
        good = good || alternative;
    }
    good
}

fn all_of(rest: &mut &[&str]) -> bool {
    let mut good = one(rest);
    while rest.first() == Some(&"AND") {
        *rest = &rest[1..];
        let other = one(rest);
        good = good && other;
    }
    good
}

fn one(rest: &mut &[&str]) -> bool {
    let Some((first, after)) = rest.split_first() else {
        return false;
    };
    *rest = after;
    if *first == "(" {
        let good = any_of(rest);
        let closed = rest.first() == Some(&")");
        if closed {
            *rest = &rest[1..];
        }
        return good && closed;
    }
    let mut licence = (*first).to_owned();
    if let ["WITH", exception, tail @ ..] = rest {
        licence = format!("{licence} WITH {exception}");
        *rest = tail;
    }
    ALLOWED.contains(&licence.as_str())
}

#[cfg(test)]
mod tests {
    use super::acceptable;

    #[test]
    fn expressions() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
        ] {
            assert!(acceptable(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT",
            "MIT WITH strange-exception",
            "MIT MIT",
        ] {
            assert!(!acceptable(bad), "{bad}");
        }
    }
}
