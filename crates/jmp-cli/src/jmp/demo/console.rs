//! What the console said, made fit for a terminal and for messages.

/// The text as its reader would see it: backspaces applied, other control characters replaced.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\r' => {}
            '\n' => shown.push('\n'),
            '\x08' => {
                if !shown.ends_with('\n') {
                    shown.pop();
                }
            }
            '\t' => shown.push(' '),
            character if character.is_control() => shown.push('·'),
            character => shown.push(character),
        }
    }
    shown
}

/// The lines of `text` that have one of `words` in them.
pub fn excerpt(text: &str, words: &[&str]) -> Vec<String> {
    let text = visible(text);
    text.lines()
        .map(str::trim_end)
        .filter(|line| words.iter().any(|word| line.contains(word)))
        .map(str::to_owned)
        .collect()
}

/// The last line that is not empty.
pub fn last_line(text: &str) -> String {
    let tail = text
        .char_indices()
        .rev()
        .nth(400)
        .map_or(0, |(position, _)| position);
    let text = visible(&text[tail..]);
    let mut lines = text.lines().rev().map(str::trim_end);
    let last = lines.find(|line| !line.is_empty());
    last.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_countdown_shows_its_last_number() {
        let text = "DRAM: ok\r\n\r\nautoboot:  3 \x08\x08\x08 2 \x08\x08\x08 1 \r\n=> ";
        assert_eq!(excerpt(text, &["boot", "=>"]), ["autoboot:  1", "=>"]);
        assert_eq!(last_line(text), "=>");
    }

    #[test]
    fn nothing_reaches_the_terminal_that_could_control_it() {
        assert_eq!(visible("a\x1b[31mb\x07\u{9b}c"), "a·[31mb··c");
    }
}
