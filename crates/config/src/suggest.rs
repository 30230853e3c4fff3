//! "Did you mean": the known word that is nearest to the one written.

/// Words compared at most, so that a large file with many unknown names stays quick to refuse.
const CANDIDATES_MAX: usize = 1_000;
/// Characters; longer words are not names that a person mistyped.
const WORD_CHARS_MAX: usize = 64;

/// The nearest of `known`, if it is near enough to be what was meant: up to a third of the
/// letters wrong, a swap of two neighbours counting as one.
pub(crate) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if written.len() > WORD_CHARS_MAX {
        return None;
    }
    let plain = |word: &str| word.to_lowercase().replace(['-', ' '], "_");
    let wanted = plain(written);
    let limit = (wanted.chars().count().max(3)) / 3;
    known
        .into_iter()
        .take(CANDIDATES_MAX)
        .filter(|word| word.len() <= WORD_CHARS_MAX)
        .map(|word| (strsim::damerau_levenshtein(&wanted, &plain(word)), word))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Help for an unknown word: the nearest known one, or all of them if they are few.
pub fn help<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
    plural: &str,
) -> String {
    const LISTED_MAX: usize = 16;
    if let Some(word) = nearest(written, known.clone()) {
        return format!("did you mean `{word}`?");
    }
    let mut words: Vec<String> =
        known.into_iter().take(LISTED_MAX + 1).map(|w| format!("`{w}`")).collect();
    if words.is_empty() {
        return format!("there are no {plural}");
    }
    if words.len() > LISTED_MAX {
        words[LISTED_MAX] = "...".into();
    }
    format!("{plural}: {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_only() {
        let known = ["endpoints", "health", "retry", "round_robin", "least_request"];
        for (written, expected) in [
            ("endpionts", Some("endpoints")),
            ("endpoint", Some("endpoints")),
            ("Health", Some("health")),
            ("round-robin", Some("round_robin")),
            ("leastrequest", Some("least_request")),
            ("rtery", Some("retry")),
            ("x", None),
            ("", None),
            ("weight", None),
        ] {
            assert_eq!(nearest(written, known), expected, "{written}");
        }
    }
}
