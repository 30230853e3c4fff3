//! What the system says of an error, as messages to people have it.

use std::io::Error;

/// `Connection refused`: the system's words, without the number that the standard library adds
/// (`Connection refused (os error 111)`). Errors that are not the system's say what they always do.
pub fn reason(error: &Error) -> String {
    let mut text = error.to_string();
    if let Some(number) = text.find(" (os error") {
        text.truncate(number);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_left_out() {
        let refused = Error::from_raw_os_error(111);
        assert!(refused.to_string().ends_with(" (os error 111)"), "{refused}");
        assert_eq!(reason(&refused), refused.to_string().replace(" (os error 111)", ""));
        assert_eq!(reason(&Error::other("not (yet) there")), "not (yet) there");
    }
}
