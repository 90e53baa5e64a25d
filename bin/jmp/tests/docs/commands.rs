//! Command lines inside the pages: `jmp` must understand them.

use std::path::Path;

use crate::markdown::pages;

/// Lines that begin with this are typed by people.
const PROMPT: &str = "$ ";

/// Lines with `jmp` in console blocks that it would refuse.
pub fn refused(root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let mut count = 0;
    for page in pages(root) {
        for block in page.blocks() {
            if block.language != "console" {
                continue;
            }
            let text = block.text.replace("\\\n", " ");
            for line in text.lines().filter_map(|line| line.strip_prefix(PROMPT)) {
                for words in programs(line) {
                    count += 1;
                    if let Err(problem) = understood(&words) {
                        let place = format!("{}:{}", page.path.display(), block.line);
                        problems.push(format!("{place}: `{}`: {problem}", words.join(" ")));
                    }
                }
            }
        }
    }
    assert!(count > 0, "no page has a command line");
    problems
}

/// The command lines of `jmp` in a line of a shell.
fn programs(line: &str) -> Vec<Vec<String>> {
    let mut programs = vec![Vec::new()];
    for word in words(line) {
        match word.as_str() {
            // What comes after it is no part of the command.
            "#" | ">" | ">>" => break,
            "&&" | "||" | "|" | "&" | ";" => programs.push(Vec::new()),
            _ => programs.last_mut().expect("at least one").push(word),
        }
    }
    programs.into_iter().filter_map(ours).collect()
}

/// From `jmp` on, also where cargo builds it first.
fn ours(words: Vec<String>) -> Option<Vec<String>> {
    let is_cargo = words.first().is_some_and(|word| word == "cargo")
        && words.windows(2).any(|pair| pair == ["--bin", "jmp"]);
    if is_cargo {
        let arguments = words.into_iter().skip_while(|word| word != "--").skip(1);
        return Some(std::iter::once("jmp".to_owned()).chain(arguments).collect());
    }
    let mut words = words.into_iter().skip_while(|word| {
        let is_variable = |name: &str| {
            name.bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_uppercase())
        };
        word.split_once('=')
            .is_some_and(|(name, _)| is_variable(name))
    });
    let first = words.next()?;
    (first == "jmp").then(|| std::iter::once(first).chain(words).collect())
}

/// Words as a shell splits them, without expansions.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

fn understood(words: &[String]) -> Result<(), String> {
    match jmp_cli::jmp::command().try_get_matches_from(words) {
        Err(error) if error.use_stderr() => {
            let text = error.to_string();
            Err(text.lines().next().unwrap_or_default().to_owned())
        }
        _ => Ok(()),
    }
}
