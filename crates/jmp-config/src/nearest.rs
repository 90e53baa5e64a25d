//! The valid word that comes nearest to a misspelt one.

/// The candidate nearest to `word`, if one is near enough to be meant.
///
/// Case, `-` and `_` do not count; otherwise one edit in three characters is allowed (an exchange of
/// neighbours is one edit).
#[must_use]
pub fn nearest<'a, I>(word: &str, candidates: I) -> Option<&'a str>
where
    I: IntoIterator<Item = &'a str>,
{
    ranked(word, candidates).into_iter().next()
}

/// All candidates near enough to `word`, best first, equal ones in the order given.
#[must_use]
pub fn ranked<'a, I>(word: &str, candidates: I) -> Vec<&'a str>
where
    I: IntoIterator<Item = &'a str>,
{
    let word = fold(word);
    // Distance is quadratic in length; nothing that long is a misspelt name.
    if word.is_empty() || word.len() > 128 {
        return Vec::new();
    }
    let allowed = (word.chars().count() / 3).max(1);
    let mut found: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = strsim::damerau_levenshtein(&word, &fold(candidate));
            (distance <= allowed).then_some((distance, candidate))
        })
        .collect();
    found.sort_by_key(|(distance, _)| *distance);
    found.into_iter().map(|(_, candidate)| candidate).collect()
}

fn fold(word: &str) -> String {
    word.chars()
        .filter(|character| !matches!(character, '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let keys = ["type", "config", "children", "ref", "failureDetection"];
        for (word, expected) in [
            ("typ", Some("type")),
            ("tpye", Some("type")),
            ("Config", Some("config")),
            ("childern", Some("children")),
            ("failure_detection", Some("failureDetection")),
            ("class", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), expected, "{word}");
        }
    }
}
