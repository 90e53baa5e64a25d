//! Texts that look like those of shipped exporters.

/// `['a', 'b']`
pub(crate) fn list(items: &[&str]) -> String {
    format!("[{}]", quoted(items))
}

/// `('a',)`
pub(crate) fn tuple(items: &[String]) -> String {
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    let comma = if items.len() == 1 { "," } else { "" };
    format!("({}{comma})", quoted(&items))
}

/// `{A, B}`
pub(crate) fn names(items: &[&str]) -> String {
    format!("{{{}}}", items.join(", "))
}

fn quoted(items: &[&str]) -> String {
    let quoted: Vec<String> = items
        .iter()
        .map(|item| {
            format!(
                "'{}'",
                item.escape_debug().to_string().replace("\\\"", "\"")
            )
        })
        .collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_tuples() {
        assert_eq!(list(&["a", "b"]), "['a', 'b']");
        assert_eq!(tuple(&["x".into()]), "('x',)");
        assert_eq!(tuple(&[]), "()");
        assert_eq!(tuple(&["a\n\"".into(), "b".into()]), "('a\\n\"', 'b')");
        assert_eq!(names(&[]), "{}");
    }
}
